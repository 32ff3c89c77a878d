package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Adopt takes over a data socket that an earlier process has opened, bound and
// connected, as it is: nothing that waits in it is lost. The file belongs to the Socket,
// unless an error is returned.
func Adopt(file *os.File) (*Socket, error) {
	s := &Socket{file: file}
	if err := s.control(s.adopt); err != nil {
		return nil, fmt.Errorf("adopt data socket: %w", err)
	}
	return s, nil
}

// RemoteOf returns the address that an open data socket is connected to; not valid if
// none, or if file is nil or no such socket.
func RemoteOf(file *os.File) netip.AddrPort {
	if file == nil {
		return netip.AddrPort{}
	}
	var remote netip.AddrPort
	err := control(file, func(fd int) (err error) {
		remote, err = remoteAddr(fd)
		return err
	})
	if err != nil {
		return netip.AddrPort{}
	}
	return remote
}

func (s *Socket) adopt(fd int) error {
	family, err := kind(fd)
	if err != nil {
		return err
	}
	s.family = family
	local, err := localAddr(fd)
	if err != nil {
		return err
	}
	remote, err := remoteAddr(fd)
	if err != nil {
		return err
	}
	if local.Port() != 0 {
		s.local = local
	}
	if !remote.IsValid() {
		return attachFilter(fd) // as it should have one already
	}
	// What the kernel tells is the source address of the connection; what the socket
	// was bound to shows when that is dissolved.
	s.local, s.remote, s.guessed = netip.AddrPortFrom(wildcard(family), local.Port()), remote, true
	if err := detachFilter(fd); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// kind returns the family of a UDP socket, and refuses any other descriptor.
func kind(fd int) (family int, err error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return 0, fmt.Errorf("look at its kind: %w", err)
	}
	family, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return 0, fmt.Errorf("look at its kind: %w", err)
	}
	if protocol != unix.IPPROTO_UDP || family != unix.AF_INET && family != unix.AF_INET6 {
		return 0, fmt.Errorf("%w: it is no UDP socket", errFamily)
	}
	return family, nil
}

// remoteAddr asks the kernel for the address that the socket is connected to; not
// valid if none.
func remoteAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getpeername(fd)
	if errors.Is(err, unix.ENOTCONN) {
		return netip.AddrPort{}, nil
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read remote address: %w", err)
	}
	addr, err := addrPort(sa)
	if sa, ok := sa.(*unix.SockaddrInet6); ok && sa.ZoneId != 0 {
		return withZone(addr, int(sa.ZoneId)), err
	}
	return addr, err
}

// withZone names the link of a link-local address as package net does.
func withZone(addr netip.AddrPort, index int) netip.AddrPort {
	zone := strconv.Itoa(index)
	if link, err := net.InterfaceByIndex(index); err == nil {
		zone = link.Name
	}
	return netip.AddrPortFrom(addr.Addr().WithZone(zone), addr.Port())
}

func wildcard(family int) netip.Addr {
	if family == unix.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
