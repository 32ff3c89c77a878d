package udp_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tund/internal/udp"
)

// runs makes a run of each datagram.
func runs(datagrams ...[]byte) []udp.Run {
	var r []udp.Run
	for _, d := range datagrams {
		r = append(r, udp.Run{Bytes: d, Size: len(d)})
	}
	return r
}

// numbered returns count datagrams of size bytes, the last of last bytes, as one run.
func numbered(count, size, last int) udp.Run {
	b := make([]byte, (count-1)*size+last)
	for i := range count {
		b[i*size] = byte(i + 1)
	}
	return udp.Run{Bytes: b, Size: size}
}

// joined opens two Ports that are connected over a wire: left's end is here.
func joined(t *testing.T, w *wire, left, right string) (a, b *udp.Port) {
	t.Helper()
	w.in(t, w.right, func() {
		s, p := newSocket(t)
		connect(t, s, netip.MustParseAddrPort(right), netip.MustParseAddrPort(left))
		b = p
	})
	s, a := newSocket(t)
	connect(t, s, netip.MustParseAddrPort(left), netip.MustParseAddrPort(right))
	return a, b
}

// collect receives count datagrams and returns them singly, and how often Recv returned
// something. It gives up after a while.
func collect(t *testing.T, p *udp.Port, count int) (datagrams [][]byte, receipts int) {
	t.Helper()
	b := make([]byte, 1<<16)
	for end := time.Now().Add(deadline); len(datagrams) < count && time.Now().Before(end); {
		n, size, err := p.Recv(b)
		if errors.Is(err, udp.ErrWouldBlock) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		receipts++
		for rest := b[:n]; len(rest) > 0; {
			d := rest[:min(size, len(rest))]
			datagrams = append(datagrams, bytes.Clone(d))
			rest = rest[len(d):]
		}
	}
	return datagrams, receipts
}

func same(t *testing.T, got [][]byte, sent ...udp.Run) {
	t.Helper()
	var want [][]byte
	for _, r := range sent {
		for rest := r.Bytes; len(rest) > 0; rest = rest[min(r.Size, len(rest)):] {
			want = append(want, rest[:min(r.Size, len(rest))])
		}
	}
	if len(got) != len(want) {
		t.Errorf("received %d datagrams, want %d", len(got), len(want))
		return
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("datagram %d has %d bytes, want %d", i, len(got[i]), len(want[i]))
		}
	}
}

func TestRunsCrossWholeWhereTheKernelCanDoIt(t *testing.T) {
	tests := []struct {
		name        string
		left, right string
		gso, gro    bool
		receipts    int // 0: any
	}{
		{"both, IPv4", "10.1.0.1:7000", "10.1.0.2:7000", true, true, 3},
		{"both, IPv6", "[fd01::1]:7000", "[fd01::2]:7000", true, true, 3},
		{"only the sender", "10.1.0.1:7000", "10.1.0.2:7000", true, false, 50},
		{"only the receiver", "10.1.0.1:7000", "10.1.0.2:7000", false, true, 0},
		{"neither", "10.1.0.1:7000", "10.1.0.2:7000", false, false, 50},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := joined(t, newWire(t), tt.left, tt.right)
			if a.SetGSO(tt.gso) != tt.gso || b.SetGRO(tt.gro) != tt.gro {
				t.Fatal("not in force")
			}
			sent := []udp.Run{numbered(40, 1400, 77), numbered(1, 500, 500), numbered(9, 28, 28)}
			if n, err := a.SendRuns(sent); n != 50 || err != nil {
				t.Fatalf("sent %d, %v", n, err)
			}
			got, receipts := collect(t, b, 50)
			same(t, got, sent...)
			if tt.receipts > 0 && receipts != tt.receipts {
				t.Errorf("%d receipts, want %d", receipts, tt.receipts)
			}
			if a.Counters() != (udp.Counters{}) || b.Counters() != (udp.Counters{}) {
				t.Errorf("counted %+v, %+v", a.Counters(), b.Counters())
			}
		})
	}
}

func TestALongRunIsCutToWhatOneMessageTakes(t *testing.T) {
	a, b := joined(t, newWire(t), "10.1.0.1:7000", "10.1.0.2:7000")
	a.SetGSO(true)
	b.SetGRO(true)
	for _, r := range []udp.Run{numbered(300, 50, 20), numbered(100, 1400, 1400), numbered(3, 1472, 1)} {
		count := (len(r.Bytes) + r.Size - 1) / r.Size
		if n, err := a.SendRuns([]udp.Run{r}); n != count || err != nil {
			t.Fatalf("sent %d of %d, %v, %+v", n, count, err, a.Counters())
		}
		got, _ := collect(t, b, count)
		same(t, got, r)
	}
	if c := a.Counters(); c.Singly != 0 {
		t.Errorf("%+v", c)
	}
}

// A wire that segments, and one without offload of checksums.
func TestRunsArriveOverAWireWithoutOffloads(t *testing.T) {
	w := newWire(t)
	a, b := joined(t, w, "10.1.0.1:7000", "10.1.0.2:7000")
	a.SetGSO(true)
	b.SetGRO(true)
	ethtool(t, "-K left0 tx off gso off tso off")
	r := numbered(40, 1400, 77)
	if n, err := a.SendRuns([]udp.Run{r}); n != 40 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	got, _ := collect(t, b, 40)
	same(t, got, r)
}

func ethtool(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ethtool", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ethtool %s: %v: %s", args, err, out)
	}
}

// With fragments permitted, the kernel takes large datagrams, but not runs of them.
func TestARefusedRunIsSentOneByOneAndRemembered(t *testing.T) {
	w := newWire(t)
	var b *udp.Port
	w.in(t, w.right, func() {
		s, p := newSocket(t)
		connect(t, s, netip.MustParseAddrPort("10.1.0.2:7000"), netip.MustParseAddrPort("10.1.0.1:7000"))
		b = p
	})
	s, a := newSocket(t)
	if err := s.SetFragment(true); err != nil {
		t.Fatal(err)
	}
	connect(t, s, netip.MustParseAddrPort("10.1.0.1:7000"), netip.MustParseAddrPort("10.1.0.2:7000"))
	a.SetGSO(true)
	large, small := numbered(5, 2000, 100), numbered(5, 1000, 100)
	for range 3 {
		if n, err := a.SendRuns([]udp.Run{small, large, small}); n != 15 || err != nil {
			t.Fatalf("sent %d, %v, %+v", n, err, a.Counters())
		}
		got, _ := collect(t, b, 15)
		same(t, got, small, large, small)
	}
	if c := a.Counters(); c.Singly != 1 {
		t.Errorf("%d runs were tried in vain, want 1", c.Singly)
	}
	for range 260 {
		if _, err := a.SendRuns([]udp.Run{large}); err != nil {
			t.Fatal(err)
		}
		collect(t, b, 5)
	}
	if c := a.Counters(); c.Singly != 2 {
		t.Errorf("%d runs were tried in vain after a while, want 2", c.Singly)
	}
}

func TestRunsThatCannotBeSentAreCountedByDatagram(t *testing.T) {
	enterNamespace(t)
	_, p := newSocket(t)
	p.SetGSO(true)
	if n, err := p.SendRuns([]udp.Run{numbered(7, 100, 100)}); n != 0 || err != nil || p.Counters().NotConnected != 7 {
		t.Errorf("sent %d, %v, %+v", n, err, p.Counters())
	}
}

func TestRunsDoNotAllocate(t *testing.T) {
	_, p, _, _ := loopback(t, "127.0.0.1")
	p.SetGSO(true)
	p.SetGRO(true)
	batch := append([]udp.Run{numbered(40, 1400, 3), numbered(100, 28, 28)}, runs(make([]byte, 100))...)
	b := make([]byte, 1<<16)
	paths := map[string]func(){
		"SendRuns": func() { _, _ = p.SendRuns(batch) },
		"Recv":     func() { _, _, _ = p.Recv(b) },
		"SetGSO":   func() { p.SetGSO(true) },
	}
	for name, path := range paths {
		if n := testing.AllocsPerRun(100, path); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
