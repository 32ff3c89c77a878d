package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"tund/internal/sdnotify"
)

// sockets are the listening sockets that this process was started with, by socket activation or by
// the tund before it. They are recognised by where they listen: one unit gives all of its sockets the
// same name. They stay open whether they are used or not, since whoever gave them holds
// them too, and a reload may find a use for them. They belong to the daemon's Run goroutine; a nil
// pointer holds none.
type sockets struct {
	log  *slog.Logger
	open []*listening
}

// listening is one of them.
type listening struct {
	sdnotify.Descriptor
	path string         // of a Unix socket
	addr netip.AddrPort // of a TCP socket
	used bool
}

// takeSockets picks the listening sockets. What is none is given back.
func takeSockets(log *slog.Logger, all []sdnotify.Descriptor) (s *sockets, others []sdnotify.Descriptor) {
	s = &sockets{log: log}
	for _, d := range all {
		l := &listening{Descriptor: d}
		if l.inspect() != nil {
			others = append(others, d)
			continue
		}
		s.open = append(s.open, l)
	}
	return s, others
}

// descriptors are all that must outlive an execve of this process.
func (s *sockets) descriptors() []sdnotify.Descriptor {
	var all []sdnotify.Descriptor
	if s == nil {
		return nil
	}
	for _, l := range s.open {
		all = append(all, l.Descriptor)
	}
	return all
}

// control returns the socket that listens at path, or nil.
func (s *sockets) control(path string) *net.UnixListener {
	l, _ := s.listener(func(l *listening) bool { return l.path != "" && l.path == path }).(*net.UnixListener)
	return l
}

// tcp returns the socket that listens at addr, or nil.
func (s *sockets) tcp(addr netip.AddrPort) net.Listener {
	return s.listener(func(l *listening) bool { return l.addr.IsValid() && l.addr == addr })
}

// listener returns a duplicate of the first that fits.
func (s *sockets) listener(fits func(*listening) bool) net.Listener {
	if s == nil {
		return nil
	}
	for _, l := range s.open {
		if !fits(l) {
			continue
		}
		made, err := net.FileListener(l.File)
		if err != nil {
			s.log.Warn("inherited socket not used", "from", l.Name, "addr", l.where(), "err", err)
			continue
		}
		l.used = true
		return made
	}
	return nil
}

// reportUnused says which sockets nobody will answer.
func (s *sockets) reportUnused() {
	if s == nil {
		return
	}
	for _, l := range s.open {
		if !l.used {
			s.log.Warn("inherited socket not used", "from", l.Name, "addr", l.where(), "reason", "neither the control socket nor in node.listen")
		}
	}
}

func (l *listening) where() string {
	if l.addr.IsValid() {
		return l.addr.String()
	}
	return l.path
}

// inspect finds out where the descriptor listens. The error is for what is not a socket
// of ours.
func (l *listening) inspect() error {
	raw, err := l.File.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = l.inspectDescriptor(int(fd)) })
	return errors.Join(err, failed)
}

func (l *listening) inspectDescriptor(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	accepts, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || kind != unix.SOCK_STREAM || accepts == 0 {
		return errors.Join(errors.New("does not listen"), err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrUnix:
		l.path = a.Name
	case *unix.SockaddrInet4:
		l.addr = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return l.inspect6(fd, a)
	default:
		return fmt.Errorf("address %T", name)
	}
	return nil
}

// inspect6 takes "[::]" for what it is in a configuration, both families, and for nothing else.
func (l *listening) inspect6(fd int, a *unix.SockaddrInet6) error {
	addr := netip.AddrFrom16(a.Addr)
	only6, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if addr.IsUnspecified() && only6 != 0 {
		return errors.New("takes IPv6 only")
	}
	l.addr = netip.AddrPortFrom(addr, uint16(a.Port))
	return nil
}
