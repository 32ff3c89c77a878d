package udp_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/udp"
)

// leave returns another descriptor of a socket, which is closed: what an earlier process
// leaves in a store.
func leave(t *testing.T, s *udp.Socket) *os.File {
	t.Helper()
	raw, err := s.File().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	if err := errors.Join(raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }), err); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	return os.NewFile(uintptr(fd), "stored")
}

func adopt(t *testing.T, file *os.File) (*udp.Socket, *udp.Port) {
	t.Helper()
	s, err := udp.Adopt(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	p, err := udp.FromFD(int(s.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

func TestAdoptedSocketIsAsItWasAndMayMove(t *testing.T) {
	for _, local := range []string{"0.0.0.0:0", "[::]:0", "127.0.0.1:7911", "0.0.0.0:7911", "[::]:7911"} {
		t.Run(local, func(t *testing.T) {
			enterNamespace(t)
			first, second := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
			remote := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), portOf(first))
			before, _ := newSocket(t)
			connect(t, before, netip.MustParseAddrPort(local), remote)
			port := before.LocalPort()
			from := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
			if _, err := first.WriteToUDPAddrPort([]byte("waits"), from); err != nil {
				t.Fatal(err)
			}
			s, p := adopt(t, leave(t, before))
			if s.RemoteAddr() != remote || s.LocalPort() != port {
				t.Errorf("adopted from port %d to %s, want %d and %s", s.LocalPort(), s.RemoteAddr(), port, remote)
			}
			if got := receive(t, p); string(got) != "waits" {
				t.Errorf("received %q", got)
			}
			send(t, p, []byte("ping"))
			if got := expect(t, first, []byte("ping")); got != from {
				t.Errorf("came from %s, want %s", got, from)
			}
			connect(t, s, netip.AddrPort{}, netip.AddrPortFrom(remote.Addr(), portOf(second)))
			send(t, p, []byte("moved"))
			if got := expect(t, second, []byte("moved")); got != from || s.LocalPort() != port {
				t.Errorf("came from %s, want %s", got, from)
			}
		})
	}
}

func TestAdoptedSocketThatWasNotConnectedTakesNothingFromStrangers(t *testing.T) {
	enterNamespace(t)
	before, _ := newSocket(t)
	if err := before.Bind(netip.MustParseAddrPort("127.0.0.1:7911")); err != nil {
		t.Fatal(err)
	}
	s, p := adopt(t, leave(t, before))
	if s.RemoteAddr().IsValid() || s.LocalPort() != 7911 {
		t.Errorf("adopted from port %d to %s", s.LocalPort(), s.RemoteAddr())
	}
	peer := listen(t, "127.0.0.1:0")
	if _, err := peer.WriteToUDPAddrPort([]byte("stranger"), netip.MustParseAddrPort("127.0.0.1:7911")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Recv(make([]byte, 100)); !errors.Is(err, udp.ErrWouldBlock) {
		t.Errorf("a stranger's datagram: %v", err)
	}
	connect(t, s, netip.AddrPort{}, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), portOf(peer)))
	send(t, p, []byte("ping"))
	expect(t, peer, []byte("ping"))
}

// A process may have been killed between the connect and the opening of the socket.
func TestAdoptedSocketThatIsConnectedIsOpen(t *testing.T) {
	enterNamespace(t)
	peer := listen(t, "127.0.0.1:0")
	before, _ := newSocket(t)
	connect(t, before, netip.MustParseAddrPort("127.0.0.1:7911"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), portOf(peer)))
	file := leave(t, before)
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	if err := unix.SetsockoptSockFprog(int(file.Fd()), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop}); err != nil {
		t.Fatal(err)
	}
	_, p := adopt(t, file)
	if _, err := peer.WriteToUDPAddrPort([]byte("pong"), netip.MustParseAddrPort("127.0.0.1:7911")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, p); string(got) != "pong" {
		t.Errorf("received %q", got)
	}
}

func TestAdoptRefusesOtherDescriptors(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if _, err := udp.Adopt(null); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("/dev/null: %v", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := os.NewFile(uintptr(fd), "unix")
	defer func() { _ = other.Close() }()
	if _, err := udp.Adopt(other); err == nil {
		t.Error("a Unix socket was adopted")
	}
}
