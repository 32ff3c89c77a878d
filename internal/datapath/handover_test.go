package datapath

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/pipe"
	"tund/internal/wire"
)

// handOver ends n's datapath and returns what it handed over, by way of its bytes.
func (n *node) handOver() ([]*pipe.KeyState, pipe.HandedOver) {
	n.t.Helper()
	n.heard()
	n.tell(pipe.HandOver{})
	if err := n.end(); err != nil {
		n.t.Fatal(err)
	}
	synctest.Wait()
	var states []*pipe.KeyState
	var end pipe.HandedOver
	for _, m := range n.heard() {
		if end != (pipe.HandedOver{}) {
			n.t.Errorf("%+v after all was handed over", m)
		}
		switch m := m.(type) {
		case *pipe.KeyState:
			states = append(states, m)
		case pipe.HandedOver:
			end = m
		}
	}
	p, err := pipe.EncodeState(states, end)
	if err != nil {
		n.t.Fatal(err)
	}
	if states, end, err = pipe.DecodeState(p); err != nil {
		n.t.Fatal(err)
	}
	return states, end
}

// resume starts another datapath over n's device and socket, and tells it what an
// earlier one has handed over. It returns the answer.
func (n *node) resume(c pipe.Configure, states []*pipe.KeyState, end pipe.HandedOver) pipe.Resumed {
	n.t.Helper()
	n.succeed(c)
	return n.takeOver(states, end)
}

// succeed starts another datapath over n's device and socket, which awaits Resume.
func (n *node) succeed(c pipe.Configure) {
	n.t.Helper()
	n.begin(n.t, n.path.control.mode)
	n.tell(pipe.Hello{Version: pipe.Version})
	c.Mode, c.Await = n.path.control.mode, true
	n.configure(c)
	n.heard()
}

func (n *node) takeOver(states []*pipe.KeyState, end pipe.HandedOver) pipe.Resumed {
	n.t.Helper()
	for _, m := range states {
		n.tell(m)
	}
	n.tell(pipe.Resume{Seq: 7, End: end})
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, m := range n.said {
		if answer, ok := m.(pipe.Resumed); ok {
			n.said = slices.Delete(n.said, i, i+1)
			if i != 0 {
				n.t.Errorf("said %+v before Resumed", n.said[:i])
			}
			return answer
		}
	}
	n.t.Fatalf("no Resumed, but %+v", n.said)
	return pipe.Resumed{}
}

// restart hands over from n's datapath to another one, with a pause between.
func (n *node) restart(c pipe.Configure, pause time.Duration) {
	n.t.Helper()
	states, end := n.handOver()
	time.Sleep(pause)
	if answer := n.resume(c, states, end); answer != (pipe.Resumed{Seq: 7}) {
		n.t.Errorf("%+v", answer)
	}
}

// wireTap looks at all datagrams that one node sends: each number of an index is used for
// the same bytes only.
type wireTap struct {
	t    *testing.T
	seen map[wire.Header][]byte // by index and number
	all  [][]byte
}

func newWireTap(t *testing.T) *wireTap {
	return &wireTap{t: t, seen: map[wire.Header][]byte{}}
}

func (w *wireTap) record(d []byte) {
	h, err := wire.ParseHeader(d)
	if err != nil {
		w.t.Errorf("sent %x: %v", d, err)
		return
	}
	h.Type, h.Flags = 0, 0
	if old, used := w.seen[h]; used && !bytes.Equal(old, d) {
		w.t.Errorf("index %x, number %d was used twice", h.Index, h.Number)
	}
	w.seen[h] = d
	w.all = append(w.all, d)
}

// numbered is an inner packet that can be told from all others.
func numbered(i uint32, extra int) []byte {
	return packet("", append(binary.BigEndian.AppendUint32(nil, i), make([]byte, extra)...)...)
}

// stream puts count packets into a node's device, one every pause.
func stream(n *node, count int, pause time.Duration, r *rand.Rand) {
	for i := range count {
		n.device.put(numbered(uint32(i), r.IntN(1400)))
		if r.IntN(4) != 0 {
			time.Sleep(pause)
		}
	}
}

// wantAll wants count numbered packets out of the device, each once.
func (n *node) wantAll(count int) {
	n.t.Helper()
	times := make([]int, count)
	for _, p := range n.device.got() {
		times[binary.BigEndian.Uint32(p[ipv4Header:])]++
	}
	for i, got := range times {
		if got != 1 {
			n.t.Errorf("packet %d came out %d times", i, got)
			return
		}
	}
}

func TestManyHandOversUnderTrafficLoseAndRepeatNothing(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) { manyHandOvers(t, rand.New(rand.NewPCG(seed, 3))) })
	}
}

func manyHandOvers(t *testing.T, r *rand.Rand) {
	const packets, pause = 6000, 200 * time.Microsecond
	c := pipe.Configure{Keepalive: 20 * time.Millisecond}
	p := newPair(t, pipe.ModeTUN, c)
	taps := [2]*wireTap{newWireTap(t), newWireTap(t)}
	for i, n := range []*node{p.a, p.b} {
		other := []*node{p.b, p.a}[i]
		n.socket.link(func(d []byte) {
			taps[i].record(d)
			time.Sleep(20 * time.Microsecond) // so that a batch takes its time
			other.socket.put(d)
		})
	}
	p.rekey(1)
	time.Sleep(time.Millisecond) // b has heard of it
	go stream(p.a, packets, pause, rand.New(rand.NewPCG(r.Uint64(), 0)))
	go stream(p.b, packets, pause, rand.New(rand.NewPCG(r.Uint64(), 1)))
	for i := range 40 {
		time.Sleep(time.Duration(r.IntN(20000)) * time.Microsecond)
		n := []*node{p.a, p.b}[r.IntN(2)]
		n.restart(c, time.Duration(r.IntN(5000))*time.Microsecond)
		switch i {
		case 10:
			p.reiv(1, 1)
		case 20:
			p.rekey(2)
		case 30:
			p.a.tell(pipe.Retire{KeyID: 2})
			p.b.tell(pipe.Retire{KeyID: 2})
		}
	}
	time.Sleep(2 * packets * pause)
	a, b := p.a.stats(), p.b.stats()
	if a.Drops != (pipe.Drops{}) || b.Drops != (pipe.Drops{}) || a.Missing != 0 || b.Missing != 0 {
		t.Errorf("a %+v, b %+v", a, b)
	}
	if a.TxPackets != packets || a.RxPackets != packets || b.TxPackets != packets || b.RxPackets != packets {
		t.Errorf("counters do not go on: a %+v, b %+v", a, b)
	}
	p.a.wantAll(packets)
	p.b.wantAll(packets)
	wantReplaysRefused(t, p.b, taps[0].all, packets)
	wantReplaysRefused(t, p.a, taps[1].all, packets)
}

// wantReplaysRefused sends all old datagrams again.
func wantReplaysRefused(t *testing.T, n *node, old [][]byte, packets int) {
	t.Helper()
	if len(old) < packets {
		t.Errorf("%d datagrams for %d packets", len(old), packets)
	}
	before := n.stats()
	for _, d := range old {
		n.socket.put(d)
	}
	s := n.stats()
	refused := s.Drops.Replay + s.Drops.Unknown - before.Drops.Replay - before.Drops.Unknown
	if refused != uint64(len(old)) || s.Received != before.Received || len(n.device.got()) != 0 {
		t.Errorf("%d of %d replays refused: %+v", refused, len(old), s)
	}
}

func TestAfterHandOverNothingLeavesAndNothingIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const packets = 5000
		c := pipe.Configure{Keepalive: time.Second}
		p := newPair(t, pipe.ModeTUN, c)
		p.rekey(1)
		synctest.Wait()
		p.b.device.got()
		sent := 0
		p.a.socket.link(func(d []byte) {
			sent++
			time.Sleep(time.Millisecond)
			p.b.socket.put(d)
		})
		for i := range packets {
			p.a.device.put(numbered(uint32(i), 0))
		}
		p.a.tell(pipe.SendProbe{ID: 1})
		time.Sleep(500 * time.Microsecond) // in the middle of a batch
		states, end := p.a.handOver()
		if sent == 0 || sent+p.a.device.waiting() < packets || p.a.device.waiting() < packets-1000 {
			t.Errorf("%d sent, %d wait", sent, p.a.device.waiting())
		}
		before, waiting := sent, p.a.device.waiting()
		p.b.device.put(packet("", 1))
		time.Sleep(time.Minute)
		if synctest.Wait(); sent != before || p.a.device.waiting() != waiting || p.a.socket.waiting() == 0 {
			t.Errorf("%d sent, %d read, %d received after the end", sent-before, waiting-p.a.device.waiting(), p.a.socket.waiting())
		}
		p.a.resume(c, states, end)
		time.Sleep(10 * time.Second)
		p.b.wantAll(packets)
		if got := p.a.device.got(); len(got) != 1 {
			t.Errorf("%d packets came to the other side", len(got))
		}
	})
}

func TestTheLoopsAwaitTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		states, end := p.a.handOver()
		p.a.succeed(pipe.Configure{})
		p.a.device.put(packet("", 1))
		p.b.device.put(packet("", 2))
		time.Sleep(time.Minute)
		if s := p.a.stats(); p.a.device.waiting() != 1 || p.a.socket.waiting() == 0 || s.Drops != (pipe.Drops{}) {
			t.Errorf("%d packets, %d datagrams wait: %+v", p.a.device.waiting(), p.a.socket.waiting(), s)
		}
		p.a.configure(pipe.Configure{Seq: 2}) // a reload meanwhile starts nothing
		p.a.install(p.b, 2, true)
		p.a.expect(pipe.Configured{Seq: 2}, pipe.Installed{KeyID: 2, Err: errAwaiting.Error()})
		if p.a.device.waiting() != 1 {
			t.Error("a packet was read")
		}
		p.b.device.got()
		if answer := p.a.takeOver(states, end); answer.Err != "" {
			t.Error(answer.Err)
		}
		if got := p.b.device.got(); len(got) != 1 || !bytes.Equal(got[0], packet("", 1)) {
			t.Errorf("b got %x", got)
		}
		if got := p.a.device.got(); len(got) != 1 || !bytes.Equal(got[0], packet("", 2)) {
			t.Errorf("a got %x", got)
		}
	})
}
