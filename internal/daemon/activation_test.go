package daemon

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/sdnotify"
)

// descriptorOf is a listener as another process would leave it.
func descriptorOf(t *testing.T, name string, l net.Listener) sdnotify.Descriptor {
	t.Helper()
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = l.Close(), f.Close() })
	return sdnotify.Descriptor{Name: name, File: f}
}

func listenOn(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestInheritedSocketsAreFoundByWhereTheyListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tund.sock")
	unixListener, tcp4, tcp6 := listenOn(t, "unix", path), listenOn(t, "tcp4", "127.0.0.1:0"), listenOn(t, "tcp", "[::]:0")
	s, others := takeSockets(slog.New(slog.DiscardHandler), []sdnotify.Descriptor{
		descriptorOf(t, "tund.socket", unixListener), descriptorOf(t, "tund.socket", tcp4), descriptorOf(t, "tund.socket", tcp6),
	})
	if len(others) != 0 || len(s.descriptors()) != 3 {
		t.Fatalf("took %d, gave back %d", len(s.descriptors()), len(others))
	}
	if s.control(path+"x") != nil || s.tcp(netip.MustParseAddrPort("127.0.0.1:1")) != nil {
		t.Error("a socket that listens elsewhere was found")
	}
	control := s.control(path)
	if control == nil {
		t.Fatal("the control socket was not found")
	}
	defer func() { _ = control.Close() }()
	for _, want := range []net.Listener{tcp4, tcp6} {
		addr := netip.MustParseAddrPort(want.Addr().String())
		for range 2 { // a reload may close it and want it again
			l := s.tcp(addr)
			if l == nil {
				t.Fatalf("%s was not found", addr)
			}
			answers(t, l)
			_ = l.Close()
		}
	}
}

// answers fails the test unless a connection to a listener arrives there.
func answers(t *testing.T, l net.Listener) {
	t.Helper()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	there, err := net.Dial("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = there.Close() }()
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = here.Close()
}

func TestWhatDoesNotListenIsGivenBack(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	datagram, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagram.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	only6, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp6", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	all := []sdnotify.Descriptor{{Name: "u1", File: datagram}, {Name: "state", File: null}, descriptorOf(t, "tls", only6)}
	s, others := takeSockets(slog.New(slog.DiscardHandler), all)
	if len(s.descriptors()) != 0 || len(others) != 3 {
		t.Errorf("took %d, gave back %d", len(s.descriptors()), len(others))
	}
	if _, err := unix.FcntlInt(datagram.Fd(), unix.F_GETFD, 0); err != nil {
		t.Errorf("what was given back is closed: %v", err)
	}
}

func TestInheritedSocketThatNobodyAnswersIsSaid(t *testing.T) {
	var log strings.Builder
	used, unused := listenOn(t, "tcp4", "127.0.0.1:0"), listenOn(t, "tcp4", "127.0.0.1:0")
	s, _ := takeSockets(slog.New(slog.NewTextHandler(&log, nil)), []sdnotify.Descriptor{
		descriptorOf(t, "one", used), descriptorOf(t, "two", unused),
	})
	l := s.tcp(netip.MustParseAddrPort(used.Addr().String()))
	defer func() { _ = l.Close() }()
	s.reportUnused()
	if strings.Contains(log.String(), "from=one") || !strings.Contains(log.String(), "from=two addr="+unused.Addr().String()) {
		t.Errorf("log: %s", log.String())
	}
}

func TestNobodyInheritsFromNobody(t *testing.T) {
	var s *sockets
	if s.control("/x") != nil || s.tcp(netip.AddrPort{}) != nil || s.descriptors() != nil {
		t.Error("something was found")
	}
	s.reportUnused()
}
