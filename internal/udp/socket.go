package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// errBound is returned when a socket that is bound already is asked to have
// another local address: that takes a new Socket.
var errBound = errors.New("already bound to another address")

// A Socket is the parent's end of one peer's data socket. It belongs to one
// goroutine. The child that inherits File reads what arrives; the parent never does.
type Socket struct {
	file   *os.File
	family int
	local  netip.AddrPort // as bound; not valid before
	remote netip.AddrPort // as connected; not valid otherwise

	guessed bool // of local the port alone is known: an earlier process has bound it
}

// NewSocket opens an unbound socket that drops everything until it is connected.
// Datagrams that do not fit the outgoing interface are refused, not fragmented, until
// SetFragment says otherwise.
func NewSocket() (*Socket, error) {
	fd, family, err := open()
	if err != nil {
		return nil, fmt.Errorf("open data socket: %w", err)
	}
	s := &Socket{file: os.NewFile(uintptr(fd), "udp"), family: family}
	if err := s.control(s.tune); err != nil {
		return nil, errors.Join(fmt.Errorf("open data socket: %w", err), s.Close())
	}
	return s, nil
}

// tune sets buffers and fragmentation.
func (s *Socket) tune(fd int) error {
	if err := setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, bufferSize); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	if err := setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, bufferSize); err != nil {
		return fmt.Errorf("set send buffer: %w", err)
	}
	return s.discovery(fd, false)
}

func (s *Socket) discovery(fd int, fragment bool) error {
	if fragment {
		return setDiscovery(fd, s.family, unix.IP_PMTUDISC_DONT, unix.IPV6_PMTUDISC_DONT)
	}
	return setDiscovery(fd, s.family, unix.IP_PMTUDISC_PROBE, unix.IPV6_PMTUDISC_PROBE)
}

// SetFragment chooses what happens to a datagram that the path does not carry whole.
//
// False, as at birth: don't-fragment is set and learnt path MTUs are not
// believed (PROBE), so that a datagram larger than the outgoing interface's MTU gives
// EMSGSIZE, which [Port.SendRuns] counts, and a forged ICMP message changes nothing.
//
// True: for a peer whose configured MTU is a number too large for the wire.
// don't-fragment is clear (DONT): the kernel cuts a datagram into IP fragments that fit
// the path as it is known, routers on an IPv4 path cut further, and the other
// end's kernel puts them together. IPv6 routers do not cut; the sender cuts to
// the path MTU that they report.
func (s *Socket) SetFragment(fragment bool) error {
	return s.wrap(s.control(func(fd int) error { return s.discovery(fd, fragment) }))
}

// Bind binds the socket to local, whose address may be a wildcard or not valid (the
// wildcard of the socket's family) and whose port may be 0. It still drops everything.
func (s *Socket) Bind(local netip.AddrPort) error {
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if s.local.IsValid() {
		return s.wrap(errBound)
	}
	return s.wrap(s.control(func(fd int) error { return s.bind(fd, local) }))
}

func (s *Socket) bind(fd int, local netip.AddrPort) error {
	if err := s.bindWidely(fd, local); err != nil {
		return fmt.Errorf("bind %s: %w", local, err)
	}
	bound, err := localAddr(fd)
	if err != nil {
		return err
	}
	s.local = bound
	if local.Addr().Is4() {
		s.local = netip.AddrPortFrom(local.Addr(), bound.Port())
	}
	return nil
}

// bindWidely binds the IPv4 wildcard as the wildcard of both families. An AF_INET6
// socket bound to ::ffff:0.0.0.0 counts as bound to an address, and then keeps the source
// address of its first connect for good. Connected, it receives nothing else either way.
func (s *Socket) bindWidely(fd int, local netip.AddrPort) error {
	if s.family == unix.AF_INET6 && local.Addr() == netip.IPv4Unspecified() {
		wide := netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())
		if bindTo(fd, s.family, wide) == nil {
			return nil
		}
		// Another program has the port in IPv6.
	}
	return bindTo(fd, s.family, local)
}

// Connect binds the socket to local if it is not bound yet, and connects it to
// remote, which opens it for that one source. A socket that is connected already moves:
// it keeps its port, and the source address is chosen anew unless it was bound to one.
// On an error the socket is not connected and drops everything.
//
// Nothing from a stranger reaches the child: the filter stands until the socket is
// connected. Already queued datagrams of the address it was connected to stay.
func (s *Socket) Connect(local, remote netip.AddrPort) error {
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if s.local.IsValid() && !s.fits(local) {
		return s.wrap(fmt.Errorf("bind %s: %w", local, errBound))
	}
	return s.wrap(s.control(func(fd int) error { return s.connect(fd, local, remote) }))
}

// fits reports whether local asks for nothing that the bound socket has not.
func (s *Socket) fits(local netip.AddrPort) bool {
	sameAddr := !local.Addr().IsValid() || local.Addr() == s.local.Addr()
	return sameAddr && (local.Port() == 0 || local.Port() == s.local.Port())
}

func (s *Socket) connect(fd int, local, remote netip.AddrPort) error {
	before, err := remoteAddr(fd) // nothing also where the socket was destroyed
	if err != nil {
		return err
	}
	if err := s.disconnect(fd); err != nil {
		return err
	}
	if s.local.IsValid() {
		err = s.restorePort(fd)
	} else {
		err = s.bind(fd, local)
	}
	if err != nil {
		return err
	}
	if s.local.Addr().Is4() && !remote.Addr().Unmap().Is4() {
		return fmt.Errorf("connect %s: %w", remote, errFamily)
	}
	sa, err := sockaddr(s.family, remote)
	if err != nil {
		return fmt.Errorf("connect %s: %w", remote, err)
	}
	if err := unix.Connect(fd, sa); err != nil {
		return fmt.Errorf("connect %s: %w", remote, err)
	}
	s.remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	if !before.IsValid() {
		drain(fd)
	}
	return detachFilter(fd)
}

// Disconnect makes the socket drop everything again and forget its remote address.
func (s *Socket) Disconnect() error {
	return s.wrap(s.control(s.disconnect))
}

func (s *Socket) disconnect(fd int) error {
	if !s.remote.IsValid() {
		return nil
	}
	if err := attachFilter(fd); err != nil {
		return err
	}
	if err := dissolve(fd); err != nil {
		return err
	}
	s.remote = netip.AddrPort{}
	if err := s.learnLocal(fd); err != nil {
		return err
	}
	return s.restorePort(fd)
}

// learnLocal asks for what an earlier process has bound an adopted socket to. Where the port
// was the kernel's choice it is gone by now, and the address was the wildcard.
func (s *Socket) learnLocal(fd int) error {
	if !s.guessed {
		return nil
	}
	bound, err := localAddr(fd)
	if err == nil && bound.Port() != 0 {
		s.local, s.guessed = bound, false
	}
	return err
}

// restorePort binds again where the port was the kernel's choice: such a port is
// given back when the connection is dissolved (udp(7) does not say so; the kernel's
// __udp_disconnect does), also when the socket is destroyed. A send may have got it another since.
func (s *Socket) restorePort(fd int) error {
	now, err := localAddr(fd)
	if err != nil || now.Port() == s.local.Port() {
		return err
	}
	if now.Port() != 0 {
		if err := dissolve(fd); err != nil {
			return err
		}
	}
	return s.bind(fd, s.local)
}

// LocalPort is the UDP port, 0 while the socket is not bound.
func (s *Socket) LocalPort() uint16 { return s.local.Port() }

// LocalAddr is the address that the kernel sends from at present: the wildcard while
// the socket is not connected.
func (s *Socket) LocalAddr() (netip.AddrPort, error) {
	var addr netip.AddrPort
	err := s.control(func(fd int) (err error) {
		addr, err = localAddr(fd)
		return err
	})
	return addr, s.wrap(err)
}

// RemoteAddr is the address that the socket is connected to, not valid if none.
func (s *Socket) RemoteAddr() netip.AddrPort { return s.remote }

// Connected reports whether the socket is still what Connect has made it: anybody who has the
// right can destroy it (ss -K), and it is a socket without a connection then.
func (s *Socket) Connected() bool { return s.remote.IsValid() && RemoteOf(s.file).IsValid() }

// File is the descriptor that a child inherits. It stays the Socket's: the caller
// must not close it.
func (s *Socket) File() *os.File { return s.file }

// Close closes the parent's descriptor. A child's duplicate stays open, and connected.
func (s *Socket) Close() error { return s.file.Close() }

// control runs op on the descriptor, which cannot be closed meanwhile.
func (s *Socket) control(op func(fd int) error) error { return control(s.file, op) }

func (s *Socket) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("data socket: %w", err)
}

func control(f *os.File, op func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	if err := raw.Control(func(fd uintptr) { opErr = op(int(fd)) }); err != nil {
		return err
	}
	return opErr
}
