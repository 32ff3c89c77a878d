package udp_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/udp"
)

// deadline bounds every wait of these tests.
const deadline = time.Minute

func newSocket(t *testing.T) (*udp.Socket, *udp.Port) {
	t.Helper()
	s, err := udp.NewSocket()
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

func connect(t *testing.T, s *udp.Socket, local, remote netip.AddrPort) {
	t.Helper()
	if err := s.Connect(local, remote); err != nil {
		t.Fatal(err)
	}
}

// send sends one datagram that the kernel has to take.
func send(t *testing.T, p *udp.Port, datagram []byte) {
	t.Helper()
	n, err := p.SendRuns(runs(datagram))
	if err != nil || n != 1 {
		t.Fatalf("sent %d of 1, %v; %+v", n, err, p.Counters())
	}
}

// expect receives one datagram at a plain socket.
func expect(t *testing.T, c *net.UDPConn, want []byte) netip.AddrPort {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	if !bytes.Equal(b[:n], want) {
		t.Fatalf("received %d bytes that are not those %d sent", n, len(want))
	}
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// receive waits for one datagram at a child's port.
func receive(t *testing.T, p *udp.Port) []byte {
	t.Helper()
	return receiveInto(t, p, make([]byte, 1<<16))
}

func receiveInto(t *testing.T, p *udp.Port, b []byte) []byte {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(time.Millisecond) {
		n, _, err := p.Recv(b)
		if err == nil {
			return b[:n]
		}
		if !errors.Is(err, udp.ErrWouldBlock) {
			t.Fatal(err)
		}
	}
	t.Fatal("nothing received")
	return nil
}

// eventually waits for what the kernel does in its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestSocketSpeaksToItsPeerFromEveryKindOfLocalAddress(t *testing.T) {
	tests := []struct{ local, peer, want string }{
		{"[::]:7900", "10.1.0.2:9", "10.1.0.1:7900"},
		{"[::]:7900", "[fd01::2]:9", "[fd01::1]:7900"},
		{"0.0.0.0:7900", "10.1.0.2:9", "10.1.0.1:7900"},
		{"10.1.0.1:7900", "10.1.0.2:9", "10.1.0.1:7900"},
		{"10.1.0.77:7900", "10.1.0.2:9", "10.1.0.77:7900"},
		{"[::ffff:10.1.0.1]:7900", "[::ffff:10.1.0.2]:9", "10.1.0.1:7900"},
		{"[fd01::1]:7900", "[fd01::2]:9", "[fd01::1]:7900"},
		{"[fd01::77]:7900", "[fd01::2]:9", "[fd01::77]:7900"},
	}
	for _, tt := range tests {
		t.Run(tt.local+" to "+tt.peer, func(t *testing.T) {
			w := newWire(t)
			if want := netip.MustParseAddrPort(tt.want).Addr(); want.Is4() {
				addAddress(t, "left0", netip.PrefixFrom(want, 24).String())
			} else {
				addAddress(t, "left0", netip.PrefixFrom(want, 64).String())
			}
			var peer *net.UDPConn
			w.in(t, w.right, func() { peer = listen(t, tt.peer) })
			local := netip.MustParseAddrPort(tt.local)
			if _, err := udp.ListenDoor(local); err != nil {
				t.Fatal(err)
			}
			s, p := newSocket(t)
			connect(t, s, local, netip.MustParseAddrPort(tt.peer))
			send(t, p, []byte("ping"))
			from := expect(t, peer, []byte("ping"))
			if from.String() != tt.want {
				t.Errorf("came from %s, want %s", from, tt.want)
			}
			if got, err := s.LocalAddr(); err != nil || got.String() != tt.want {
				t.Errorf("LocalAddr is %s, %v; want %s", got, err, tt.want)
			}
			if _, err := peer.WriteToUDPAddrPort([]byte("pong"), from); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, p); string(got) != "pong" {
				t.Errorf("received %q", got)
			}
		})
	}
}

func TestChildReceivesNothingFromStrangersDuringConnects(t *testing.T) {
	const connects, perConnect = 100, 100
	for _, listenAt := range []string{"[::]:0", "0.0.0.0:0", "127.0.0.1:0"} {
		t.Run(listenAt, func(t *testing.T) {
			enterNamespace(t)
			door, err := udp.ListenDoor(netip.MustParseAddrPort(listenAt))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = door.Close() })
			target := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), door.Addr().Port())
			stop, strangers := startStrangers(t, target, connects*perConnect)
			peers := [2]*net.UDPConn{listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")}
			s, p := newSocket(t)
			b, stolen := make([]byte, 2048), 0
			for i := range connects {
				if i%10 == 9 { // and a fresh socket now and then
					s, p = newSocket(t)
				}
				remote := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), portOf(peers[i%2]))
				connect(t, s, door.Addr(), remote)
				time.Sleep(time.Millisecond)
				for {
					if _, _, err := p.Recv(b); err != nil {
						break
					}
					stolen++
				}
			}
			close(stop)
			sent := strangers()
			if stolen != 0 {
				t.Errorf("%d of %d strangers' datagrams reached the child", stolen, sent)
			}
			if sent < connects*perConnect {
				t.Errorf("only %d strangers' datagrams were sent", sent)
			}
			if door.Drops() == 0 {
				t.Error("the door counted none")
			}
		})
	}
}

// startStrangers sends from changing ports until stop is closed and at least n are sent.
func startStrangers(t *testing.T, target netip.AddrPort, n int) (chan struct{}, func() int) {
	t.Helper()
	conns := make([]*net.UDPConn, 50)
	for i := range conns {
		conns[i] = listen(t, "127.0.0.1:0")
	}
	stop, sent := make(chan struct{}), 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				if sent >= n {
					return
				}
			default:
			}
			if _, err := conns[sent%len(conns)].WriteToUDPAddrPort([]byte("stranger"), target); err == nil {
				sent++
			}
		}
	})
	return stop, func() int {
		wg.Wait()
		return sent
	}
}

func TestReconnectKeepsPortAndChoosesSourceAnew(t *testing.T) {
	for _, local := range []string{"[::]:7900", "0.0.0.0:7900", "[::]:0", "0.0.0.0:0"} {
		t.Run(local, func(t *testing.T) {
			w := newWire(t)
			addAddress(t, "left0", "10.2.0.1/24")
			var first, second *net.UDPConn
			w.in(t, w.right, func() {
				addAddress(t, "right0", "10.2.0.2/24")
				first, second = listen(t, "10.1.0.2:9"), listen(t, "10.2.0.2:9")
			})
			s, p := newSocket(t)
			connect(t, s, netip.MustParseAddrPort(local), netip.MustParseAddrPort("10.1.0.2:9"))
			port := s.LocalPort()
			send(t, p, []byte("one"))
			if from := expect(t, first, []byte("one")); from != netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), port) {
				t.Errorf("first came from %s", from)
			}
			deleteAddress(t, "left0", "10.1.0.1/24")
			connect(t, s, netip.AddrPort{}, netip.MustParseAddrPort("10.2.0.2:9"))
			send(t, p, []byte("two"))
			if from := expect(t, second, []byte("two")); from != netip.AddrPortFrom(netip.MustParseAddr("10.2.0.1"), port) {
				t.Errorf("second came from %s, want port %d of 10.2.0.1", from, port)
			}
			if s.LocalPort() != port || s.RemoteAddr().String() != "10.2.0.2:9" {
				t.Errorf("port %d, remote %s", s.LocalPort(), s.RemoteAddr())
			}
		})
	}
}

func TestReconnectMovesBetweenAddressFamilies(t *testing.T) {
	w := newWire(t)
	var four, six *net.UDPConn
	w.in(t, w.right, func() { four, six = listen(t, "10.1.0.2:9"), listen(t, "[fd01::2]:9") })
	s, p := newSocket(t)
	local := netip.MustParseAddrPort("[::]:7900")
	for i := range 3 {
		for _, peer := range []*net.UDPConn{four, six} {
			connect(t, s, local, peer.LocalAddr().(*net.UDPAddr).AddrPort())
			text := fmt.Appendf(nil, "round %d", i)
			send(t, p, text)
			expect(t, peer, text)
		}
	}
}

func TestDisconnectedSocketDropsEverything(t *testing.T) {
	enterNamespace(t)
	peer := listen(t, "127.0.0.1:0")
	s, p := newSocket(t)
	connect(t, s, netip.AddrPort{}, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), portOf(peer)))
	target := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.LocalPort())
	if err := s.Disconnect(); err != nil {
		t.Fatal(err)
	}
	if s.RemoteAddr().IsValid() || s.LocalPort() != target.Port() {
		t.Errorf("remote %s, port %d", s.RemoteAddr(), s.LocalPort())
	}
	if _, err := peer.WriteToUDPAddrPort([]byte("x"), target); err != nil {
		t.Fatal(err)
	}
	if n, _, err := p.Recv(make([]byte, 10)); !errors.Is(err, udp.ErrWouldBlock) {
		t.Errorf("received %d bytes, %v", n, err)
	}
	if n, err := p.SendRuns(runs([]byte{1}, []byte{2})); n != 0 || err != nil || p.Counters().NotConnected != 2 {
		t.Errorf("sent %d, %v, %+v", n, err, p.Counters())
	}
}

func TestSocketRefusesAnotherLocalAddress(t *testing.T) {
	enterNamespace(t)
	s, _ := newSocket(t)
	if err := s.Bind(netip.MustParseAddrPort("127.0.0.1:7900")); err != nil {
		t.Fatal(err)
	}
	remote := netip.MustParseAddrPort("127.0.0.1:9")
	for _, local := range []string{"127.0.0.1:7901", "[::]:7900", "127.0.0.2:7900"} {
		if err := s.Connect(netip.MustParseAddrPort(local), remote); err == nil {
			t.Errorf("connect from %s was accepted", local)
		}
	}
	if err := s.Bind(netip.MustParseAddrPort("127.0.0.1:7900")); err == nil {
		t.Error("a second Bind was accepted")
	}
	if err := s.Connect(netip.MustParseAddrPort("127.0.0.1:7900"), netip.MustParseAddrPort("[::1]:9")); err == nil {
		t.Error("an IPv6 remote was accepted on an IPv4 address")
	}
	connect(t, s, netip.MustParseAddrPort("127.0.0.1:7900"), remote)
}

func TestLargeDatagramIsRefusedUnlessFragmentingIsAllowed(t *testing.T) {
	tests := []struct{ name, peer string }{{"IPv4", "10.1.0.2:9"}, {"IPv6", "[fd01::2]:9"}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t)
			var peer *net.UDPConn
			w.in(t, w.right, func() { peer = listen(t, tt.peer) })
			s, p := newSocket(t)
			connect(t, s, netip.MustParseAddrPort("[::]:7900"), netip.MustParseAddrPort(tt.peer))
			large := bytes.Repeat([]byte{7}, 6028)
			n, err := p.SendRuns(runs(large, []byte("small"), large))
			if n != 1 || err != nil || p.Counters().TooBig != 2 {
				t.Errorf("sent %d, %v, %+v; want the small one only", n, err, p.Counters())
			}
			expect(t, peer, []byte("small"))
			if err := s.SetFragment(true); err != nil {
				t.Fatal(err)
			}
			send(t, p, large)
			expect(t, peer, large)
			if err := s.SetFragment(false); err != nil {
				t.Fatal(err)
			}
			if n, err := p.SendRuns(runs(large)); n != 0 || err != nil {
				t.Errorf("sent %d, %v after fragmenting was turned off", n, err)
			}
		})
	}
}

func TestBuffersHoldABurstOfEightMegabytes(t *testing.T) {
	needRoot(t)
	s, _ := newSocket(t)
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
		size, err := unix.GetsockoptInt(int(s.File().Fd()), unix.SOL_SOCKET, option)
		if err != nil || size < 8<<20 {
			t.Errorf("buffer %d is %d bytes, %v", option, size, err)
		}
	}
}

func TestDoorCountsWhatItDrops(t *testing.T) {
	tests := []struct{ listen, target string }{
		{"[::]:0", "127.0.0.1"},
		{"[::]:0", "::1"},
		{"0.0.0.0:0", "127.0.0.1"},
		{"127.0.0.1:0", "127.0.0.1"},
		{"[::1]:0", "::1"},
	}
	for _, tt := range tests {
		t.Run(tt.listen+" from "+tt.target, func(t *testing.T) {
			enterNamespace(t)
			door, err := udp.ListenDoor(netip.MustParseAddrPort(tt.listen))
			if err != nil {
				t.Fatal(err)
			}
			target := netip.AddrPortFrom(netip.MustParseAddr(tt.target), door.Addr().Port())
			stranger := listen(t, netip.AddrPortFrom(target.Addr(), 0).String())
			for range 25 {
				if _, err := stranger.WriteToUDPAddrPort([]byte("knock"), target); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the last to be counted", func() bool { return door.Drops() >= 25 })
			if got := door.Drops(); got != 25 {
				t.Errorf("counted %d of 25", got)
			}
			if err := door.Close(); err != nil {
				t.Fatal(err)
			}
			if got := door.Drops(); got != 25 {
				t.Errorf("counted %d after Close", got)
			}
		})
	}
}

func TestDoorRefusesAnAddressThatIsNotHere(t *testing.T) {
	enterNamespace(t)
	_, err := udp.ListenDoor(netip.MustParseAddrPort("192.0.2.1:7900"))
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("got %v", err)
	}
}
