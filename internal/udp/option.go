package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bufferSize is what one data socket may queue: what a peer sends while its child
// is being restarted must fit, or it is lost.
const bufferSize = 8 << 20

// errFamily is returned for an IPv6 address on a socket that can only do IPv4.
var errFamily = errors.New("address family not supported by this socket")

// open makes an unbound UDP socket, dual stack where the kernel has IPv6. It comes
// with SO_REUSEPORT and a filter that drops everything.
func open() (fd, family int, err error) {
	family = unix.AF_INET6
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		family = unix.AF_INET
		fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return -1, 0, fmt.Errorf("socket: %w", err)
	}
	if err := prepare(fd, family); err != nil {
		return -1, 0, errors.Join(err, unix.Close(fd))
	}
	return fd, family, nil
}

func prepare(fd, family int) error {
	if err := attachFilter(fd); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("share port: %w", err)
	}
	if family != unix.AF_INET6 {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
		return fmt.Errorf("make dual stack: %w", err)
	}
	return nil
}

// attachFilter makes the kernel drop, and count, all that arrives from now on.
func attachFilter(fd int) error {
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	program := unix.SockFprog{Len: 1, Filter: &drop}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

func detachFilter(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
		return fmt.Errorf("detach filter: %w", err)
	}
	return nil
}

// setBuffer sets a buffer beyond the system's limit where that is permitted
// (CAP_NET_ADMIN), and as far as the limit otherwise.
func setBuffer(fd, force, plain, size int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
}

// setDiscovery sets IP_MTU_DISCOVER for both families. An AF_INET6 socket uses the
// IPv4 option for mapped addresses.
func setDiscovery(fd, family, v4, v6 int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, v4); err != nil {
		return fmt.Errorf("set IPv4 fragmentation: %w", err)
	}
	if family != unix.AF_INET6 {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, v6); err != nil {
		return fmt.Errorf("set IPv6 fragmentation: %w", err)
	}
	return nil
}

// sockaddr writes addr in the socket's family: IPv4 as ::ffff:a.b.c.d in AF_INET6.
func sockaddr(family int, addr netip.AddrPort) (unix.Sockaddr, error) {
	ip := addr.Addr().Unmap()
	if !ip.IsValid() {
		ip = wildcard(family)
	}
	if family == unix.AF_INET {
		if !ip.Is4() {
			return nil, errFamily
		}
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}, nil
	}
	zone, err := zoneID(ip.Zone())
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16(), ZoneId: zone}, nil
}

// zoneID reads an IPv6 zone, which is a number or an interface's name.
func zoneID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	iface, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone %s: %w", zone, err)
	}
	return uint32(iface.Index), nil
}

// bindTo binds to addr, written in the socket's family.
func bindTo(fd, family int, addr netip.AddrPort) error {
	sa, err := sockaddr(family, addr)
	if err != nil {
		return err
	}
	return unix.Bind(fd, sa)
}

// localAddr asks the kernel for the socket's own address.
func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read local address: %w", err)
	}
	return addrPort(sa)
}

// addrPort reads what the kernel says of an address, IPv4 as IPv4 and without a zone.
func addrPort(sa unix.Sockaddr) (netip.AddrPort, error) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	default:
		return netip.AddrPort{}, errFamily
	}
}

// dissolve undoes a connect. A port that was asked for by number stays bound.
func dissolve(fd int) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return fmt.Errorf("disconnect: %w", errno)
	}
	return nil
}

// drain throws away what is queued, and with it ICMP errors and that of a socket that was destroyed.
func drain(fd int) {
	var b [1]byte
	for {
		_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		var errno unix.Errno
		if errors.As(err, &errno) && !pending(errno) && errno != unix.ECONNABORTED {
			return
		}
	}
}
