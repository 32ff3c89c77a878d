package main

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What tund does for a stream and this does not is to encrypt it and to look at it: no
// cipher, no keys, no checks. A super-packet goes as it is read, with its virtio header, as
// one run of datagrams, and is written as one when all of it has come. So this is about
// as fast as a process can carry packets between a TUN device and a UDP socket here, and
// what it lacks to the bare wire is the kernel's part of the way.

const (
	plainName = "plain"
	plainPort = 7777
	// plainSegment is the payload of a datagram: it fits the wire, over IPv4.
	plainSegment = 1500 - 20 - 8
	plainMTU     = plainSegment - plainHeader
	plainHeader  = 10    // struct virtio_net_hdr
	plainSuper   = 60000 // fits one send
	plainBuffer  = 4 << 20
	plainCommand = "carry" // the first argument that makes this program one end
)

// plain returns the way without a tunnel's work.
func plain() system {
	return system{
		name:    plainName,
		about:   "no cipher, no keys, no checks: super-packets over UDP with the same offloads, whole or not at all",
		version: func(*bed) (string, error) { return "e2e/bench", nil },
		start:   startPlain,
	}
}

func startPlain(b *bed) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	err = b.runBoth(self, func(s side) []string {
		return []string{plainCommand, s.device, s.outer.String(), s.peerOuter.String()}
	})
	if err != nil {
		return err
	}
	if err := b.addresses(); err != nil {
		return err
	}
	for _, s := range b.sides() {
		if err := s.node.Run("ip", "link", "set", s.device, "mtu", fmt.Sprint(plainMTU), "gso_max_size", fmt.Sprint(plainSuper)); err != nil {
			return err
		}
	}
	return nil
}

// carry is one end of plain: device, own address, the other's. It returns only errors.
func carry(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s: device, address, address", plainCommand)
	}
	runtime.GOMAXPROCS(4) // two of them are held by calls that the scheduler does not see
	device, err := plainDevice(args[0])
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	socket, err := plainSocket(args[1], args[2])
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	failed := make(chan error, 2) // one of each direction
	go func() { failed <- pump("out", device, socket) }()
	go func() { failed <- pump("in", socket, device) }()
	return <-failed
}

// pump writes to one descriptor what it reads from another. What the kernel refuses is lost.
func pump(direction string, from, to int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := make([]byte, 1<<17)
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(from), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch {
		case errno == unix.EBADFD: // the device is gone
			return fmt.Errorf("%s: %w", direction, errno)
		case errno == 0 && n > 0:
			_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(to), uintptr(unsafe.Pointer(&b[0])), n)
		}
	}
}

// plainDevice makes a TUN device with virtio headers and the offloads of TCP.
func plainDevice(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return 0, err
	}
	return fd, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
}

// plainSocket connects two addresses, with UDP_SEGMENT and UDP_GRO.
func plainSocket(from, to string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_UDP, unix.UDP_SEGMENT, plainSegment},
		{unix.SOL_UDP, unix.UDP_GRO, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, plainBuffer},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, plainBuffer},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return 0, err
		}
	}
	var ends [2]unix.SockaddrInet4
	for i, text := range []string{from, to} {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return 0, err
		}
		ends[i] = unix.SockaddrInet4{Port: plainPort, Addr: address.As4()}
	}
	if err := unix.Bind(fd, &ends[0]); err != nil {
		return 0, err
	}
	return fd, unix.Connect(fd, &ends[1])
}
