package main

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/aead"
	"tund/internal/keys"
)

// What tund does for a stream and this does not is to look at it: no keys, no packet numbers, no
// checks. A super-packet goes as it is read, with its virtio header, as
// one run of datagrams, and is written as one when all of it has come. So this is about
// as fast as a process can carry packets between a TUN device and a UDP socket here, and
// what it lacks to the bare wire is the kernel's part of the way. Without a cipher it is the bound of
// every such program, with tund's cipher that of tund.

const (
	plainName = "plain"
	plainAES  = "plain-aes"
	plainGo   = "plain-aes-go"
	noCipher  = "none"
	plainPort = 7777
	// plainSegment is the payload of a datagram: it fits the wire, over IPv4.
	plainSegment = 1500 - 20 - 8
	plainMTU     = plainSegment - plainHeader
	plainHeader  = 10    // struct virtio_net_hdr
	plainSuper   = 60000 // fits one send
	plainRead    = 1 << 17
	plainBuffer  = 4 << 20
	plainCommand = "carry" // the first argument that makes this program one end
)

// plain returns the way without a tunnel's work but, perhaps, a cipher of package aead.
func plain(name, engine, about string) system {
	return system{
		name:    name,
		about:   about + ", no keys, no checks: super-packets over UDP with the same offloads, whole or not at all",
		version: func(*bed) (string, error) { return "e2e/bench", nil },
		start:   func(b *bed) error { return startPlain(b, engine) },
	}
}

func startPlain(b *bed, engine string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	err = b.runBoth(self, func(s side) []string {
		return []string{plainCommand, engine, s.device, s.outer.String(), s.peerOuter.String()}
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

// carry is one end of plain: engine, device, own address, the other's. It returns only errors.
func carry(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%s: engine, device, address, address", plainCommand)
	}
	runtime.GOMAXPROCS(4) // two of them are held by calls that the scheduler does not see
	device, err := plainDevice(args[1])
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	socket, err := plainSocket(args[2], args[3])
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	out, err := newPump("out", args[0], device, socket)
	if err != nil {
		return err
	}
	in, err := newPump("in", args[0], socket, device)
	if err != nil {
		return err
	}
	failed := make(chan error, 2) // one of each direction
	go func() { failed <- out.run() }()
	go func() { failed <- in.run() }()
	return <-failed
}

// pump is one direction.
type pump struct {
	name     string
	from, to int
	cipher   aead.Cipher // nil: none
	buffer   []byte      // aead.ADSize, what is read, aead.TagSize
	batch    aead.Batch
}

func newPump(name, engine string, from, to int) (*pump, error) {
	p := &pump{name: name, from: from, to: to, buffer: make([]byte, aead.ADSize+plainRead+aead.TagSize)}
	if engine == noCipher {
		return p, nil
	}
	e, err := aead.Open(engine)
	if err != nil {
		return nil, err
	}
	p.batch = aead.Batch{Plain: p.buffer, Sealed: p.buffer, Heads: make([]byte, plainRead)}
	p.cipher, err = e.New(keys.AES256GCM, new(keys.Secret))
	return p, err
}

// run writes to one descriptor what it reads from the other. What the kernel refuses is lost.
func (p *pump) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := p.buffer[aead.ADSize:]
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(p.from), uintptr(unsafe.Pointer(&b[0])), plainRead)
		switch {
		case errno == unix.EBADFD: // the device is gone
			return fmt.Errorf("%s: %w", p.name, errno)
		case errno == 0 && n > 0:
			p.crypt(int(n))
			_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p.to), uintptr(unsafe.Pointer(&b[0])), n)
		}
	}
}

// crypt seals, where it lies, what becomes one datagram each, or was one. Twice is not at all:
// key and nonce are always the same. The tag of each lies over the head of the next, which
// puts itself back.
func (p *pump) crypt(n int) {
	if p.cipher == nil {
		return
	}
	p.batch.Jobs = p.batch.Jobs[:0]
	for at := 0; at < n; at += plainSegment {
		size := min(plainSegment, n-at)
		head := min(aead.TagSize, size)
		copy(p.batch.Heads[at:], p.buffer[aead.ADSize+at:][:head])
		p.batch.Jobs = append(p.batch.Jobs, aead.Job{
			Plain: aead.ADSize + at, Sealed: aead.ADSize + at, Size: size, Head: at, HeadSize: head,
		})
	}
	p.cipher.SealBatch(&p.batch)
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
