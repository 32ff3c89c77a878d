package udp_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/udp"
)

// loopback connects a Port to a plain socket on loopback.
func loopback(t *testing.T, host string) (*udp.Socket, *udp.Port, func(b []byte), func(want []byte)) {
	t.Helper()
	enterNamespace(t)
	addr := netip.MustParseAddr(host)
	peer := listen(t, netip.AddrPortFrom(addr, 0).String())
	s, p := newSocket(t)
	connect(t, s, netip.AddrPort{}, netip.AddrPortFrom(addr, portOf(peer)))
	write := func(b []byte) {
		if _, err := peer.WriteToUDPAddrPort(b, netip.AddrPortFrom(addr, s.LocalPort())); err != nil {
			t.Fatal(err)
		}
	}
	return s, p, write, func(want []byte) { expect(t, peer, want) }
}

func TestPortSendsBatchesLargerThanOneSystemCallTakes(t *testing.T) {
	_, p, _, expect := loopback(t, "::1")
	var batch [][]byte
	for i := range 150 {
		batch = append(batch, bytes.Repeat([]byte{byte(i)}, i+1))
	}
	n, err := p.SendRuns(runs(batch...))
	if n != len(batch) || err != nil {
		t.Fatalf("sent %d of %d, %v", n, len(batch), err)
	}
	for _, d := range batch {
		expect(d)
	}
}

func TestPortDropsDatagramThatDoesNotFit(t *testing.T) {
	_, p, write, _ := loopback(t, "127.0.0.1")
	write(make([]byte, 101))
	write([]byte("fits"))
	b := make([]byte, 100)
	if got := receiveInto(t, p, b); string(got) != "fits" {
		t.Errorf("received %q", got)
	}
	if got := p.Counters().Truncated; got != 1 {
		t.Errorf("counted %d truncated", got)
	}
	if _, _, err := p.Recv(b); !errors.Is(err, udp.ErrWouldBlock) {
		t.Errorf("got %v from an empty socket", err)
	}
}

// refusedPort is connected to a port where nobody listens.
func refusedPort(t *testing.T, host string) *udp.Port {
	t.Helper()
	enterNamespace(t)
	s, p := newSocket(t)
	connect(t, s, netip.AddrPort{}, netip.AddrPortFrom(netip.MustParseAddr(host), 9))
	return p
}

func TestPortSendsAgainWhatAnICMPErrorKeptBack(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			p := refusedPort(t, host)
			for i := range 10 {
				if n, err := p.SendRuns(runs([]byte{1})); n != 1 || err != nil {
					t.Fatalf("send %d: sent %d, %v, %+v", i, n, err, p.Counters())
				}
			}
			for i := range 10 {
				if ok, err := p.Send([]byte{1}); !ok || err != nil {
					t.Fatalf("single send %d: %t, %v, %+v", i, ok, err, p.Counters())
				}
			}
			n, err := p.SendRuns(runs([]byte{1}, []byte{2}, []byte{3}, []byte{4}))
			if sum := uint64(n) + p.Counters().Unreachable; sum != 4 || err != nil {
				t.Errorf("sent %d, %v, %+v: does not add up", n, err, p.Counters())
			}
			if p.Counters().ICMP == 0 {
				t.Error("no ICMP error counted")
			}
		})
	}
}

func TestPortPassesOverICMPErrorsWhenReceiving(t *testing.T) {
	p := refusedPort(t, "127.0.0.1")
	send(t, p, []byte{1})
	eventually(t, "the ICMP error", func() bool { // the kernel may deliver it a moment later
		if _, _, err := p.Recv(make([]byte, 10)); !errors.Is(err, udp.ErrWouldBlock) {
			t.Errorf("got %v", err)
		}
		return p.Counters().ICMP != 0
	})
	if got := p.Counters().ICMP; got != 1 {
		t.Errorf("counted %d ICMP errors", got)
	}
}

func TestPortCountsWhatHasNoRoute(t *testing.T) {
	w := newWire(t)
	var peerAddr netip.AddrPort
	w.in(t, w.right, func() { peerAddr = netip.MustParseAddrPort("10.1.0.2:9"); listen(t, "10.1.0.2:9") })
	s, p := newSocket(t)
	connect(t, s, netip.MustParseAddrPort("[::]:7900"), peerAddr)
	deleteAddress(t, "left0", "10.1.0.1/24")
	n, err := p.SendRuns(runs([]byte{1}, []byte{2}, []byte{3}))
	if n != 0 || err != nil || p.Counters().Unreachable != 3 {
		t.Errorf("sent %d, %v, %+v", n, err, p.Counters())
	}
}

func TestPortReportsALostSocket(t *testing.T) {
	enterNamespace(t)
	s, p := newSocket(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Recv(make([]byte, 10)); err == nil || errors.Is(err, udp.ErrWouldBlock) {
		t.Errorf("Recv: %v", err)
	}
	if _, err := p.SendRuns(runs([]byte{1})); err == nil {
		t.Error("SendRuns: no error")
	}
	if err := p.Wait(-1); err == nil {
		t.Error("Wait: no error")
	}
}

func TestFromFDRefusesWhatIsNoDatagramSocket(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	if _, err := udp.FromFD(int(r.Fd())); err == nil {
		t.Error("a pipe was accepted")
	}
}

// startWait runs Wait on a goroutine and returns its result.
func startWait(p *udp.Port, stop int) chan error {
	done := make(chan error, 1)
	go func() { done <- p.Wait(stop) }() // ends when the socket is readable or stop is hung up
	return done
}

func await(t *testing.T, done chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(deadline):
		t.Fatal("Wait did not return")
		return nil
	}
}

func TestWaitEndsOnADatagramOrAtTheStop(t *testing.T) {
	for what, stop := range map[string]func(w *os.File) error{
		"hung up":  func(w *os.File) error { return w.Close() },
		"readable": func(w *os.File) error { _, err := w.Write([]byte{1}); return err },
	} {
		_, p, write, _ := loopback(t, "127.0.0.1")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
		done := startWait(p, int(r.Fd()))
		write([]byte("x"))
		if err := await(t, done); err != nil {
			t.Fatal(err)
		}
		receive(t, p)
		done = startWait(p, int(r.Fd()))
		if err := stop(w); err != nil {
			t.Fatal(err)
		}
		if err := await(t, done); !errors.Is(err, udp.ErrStopped) {
			t.Errorf("stop is %s: %v", what, err)
		}
	}
}

func TestWaitDoesNotSpinOnAPendingError(t *testing.T) {
	p := refusedPort(t, "127.0.0.1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	send(t, p, []byte{1}) // refused: the error is pending now
	done := startWait(p, int(r.Fd()))
	select {
	case err := <-done:
		t.Fatalf("Wait returned %v with nothing to receive", err)
	case <-time.After(50 * time.Millisecond):
	}
	eventually(t, "the ICMP error", func() bool { return p.Counters().ICMP != 0 })
	if got := p.Counters().ICMP; got != 1 {
		t.Errorf("counted %d ICMP errors, want 1", got)
	}
	_ = w.Close()
	if err := await(t, done); !errors.Is(err, udp.ErrStopped) {
		t.Errorf("got %v", err)
	}
}

func TestPacketPathDoesNotAllocate(t *testing.T) {
	_, p, write, _ := loopback(t, "127.0.0.1")
	batch := [][]byte{make([]byte, 100), make([]byte, 1400), make([]byte, 28)}
	all := runs(batch...)
	b := make([]byte, 2048)
	payload := make([]byte, 100)
	paths := map[string]func(){
		"SendRuns": func() { _, _ = p.SendRuns(all) },
		"Send":     func() { _, _ = p.Send(payload) },
		"Wait":     func() { write(payload); _ = p.Wait(-1); _, _, _ = p.Recv(b) },
		"Recv":     func() { _, _, _ = p.Recv(b) },
		"Counters": func() { _ = p.Counters() },
	}
	for name, path := range paths {
		if n := testing.AllocsPerRun(100, path); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestReceiveNeverBlocksOnABlockingDescriptor(t *testing.T) {
	s, p, _, _ := loopback(t, "127.0.0.1")
	flags, err := unix.FcntlInt(s.File().Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Fatalf("flags %#x, %v: the descriptor must be blocking", flags, err)
	}
	if _, _, err := p.Recv(make([]byte, 1)); !errors.Is(err, udp.ErrWouldBlock) {
		t.Errorf("got %v", err)
	}
}
