package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/replay"
	"tund/internal/tuntap"
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

func TestAPendingKeySurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.b.install(p.a, 2, false)
		p.b.installIV(p.a, 2, 1, false)
		p.b.restart(pipe.Configure{}, time.Second)
		if s := p.b.stats(); s.SendKey != 1 || s.ReceiveSlots != 3 {
			t.Errorf("%+v", s)
		}
		p.b.heard()
		p.a.install(p.b, 2, true)
		p.b.expect(pipe.KeyActive{KeyID: 2})
		deliver(t, p.a, p.b, packet("", 1))
		deliver(t, p.b, p.a, packet("", 2))
		p.a.installIV(p.b, 2, 1, true)
		p.b.expect(pipe.KeyActive{KeyID: 2, Generation: 1})
	})
}

func TestAnUnconfirmedSwitchIsConfirmedByTheSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.a.socket.link(func([]byte) {}) // the probes are lost
		p.rekey(2)
		p.b.heard()
		states, end := p.a.handOver()
		p.a.socket.link(p.b.socket.put)
		p.a.resume(pipe.Configure{}, states, end)
		p.a.expect(pipe.KeyActive{KeyID: 2})
		p.b.expect(pipe.KeyActive{KeyID: 2})
	})
}

func TestWhatWasHeardLastIsAnnouncedByTheSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.b.install(p.a, 2, false)
		states, end := p.b.handOver()
		states[1].Slots[0].Heard = true
		p.b.resume(pipe.Configure{}, states, end)
		p.b.expect(pipe.KeyActive{KeyID: 2})
		if s := p.b.stats(); s.SendKey != 2 {
			t.Errorf("sends with %d", s.SendKey)
		}
	})
}

func TestNothingIsSaidTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ProtocolLimits()
		l.RekeyPackets, l.RekeyBytes = 5, 100
		p := newLimitedPair(t, pipe.ModeTUN, pipe.Configure{}, l)
		p.rekey(1)
		for range 10 {
			deliver(t, p.a, p.b, packet("", make([]byte, 50)...))
		}
		p.a.expect(
			pipe.Installed{KeyID: 1}, pipe.KeyActive{KeyID: 1},
			pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyBytes}, pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyPackets},
		)
		p.a.restart(pipe.Configure{}, 0)
		deliver(t, p.a, p.b, packet(""))
		p.a.expect()
	})
}

func TestRetiredKeysDoNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		var old [][]byte
		p.a.socket.link(func(d []byte) {
			old = append(old, d)
			p.b.socket.put(d)
		})
		p.rekey(1)
		p.reiv(1, 1)
		p.rekey(2)
		p.b.tell(pipe.Retire{KeyID: 2})
		states, end := p.b.handOver()
		if len(states) != 1 || states[0].KeyID != 2 || len(states[0].Slots) != 1 {
			t.Errorf("%d keys: %v", len(states), states)
		}
		p.b.resume(pipe.Configure{}, states, end)
		before := p.b.stats()
		for _, d := range old {
			p.b.socket.put(d)
		}
		s := p.b.stats()
		if n := s.Drops.Unknown + s.Drops.Replay - before.Drops.Unknown - before.Drops.Replay; n != uint64(len(old)) || s.ReceiveSlots != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestARetiredKeyThatIsSentWithIsSentWithOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.a.install(p.b, 2, false)
		p.a.tell(pipe.Retire{KeyID: 2})
		p.a.restart(pipe.Configure{}, 0)
		deliver(t, p.a, p.b, packet("", 1))
		p.b.device.put(packet("", 2))
		if s := p.a.stats(); s.SendKey != 1 || s.ReceiveSlots != 1 || s.Drops.Unknown == 0 {
			t.Errorf("%+v", s)
		}
		p.a.tell(pipe.Activate{KeyID: 2})
		if s := p.a.stats(); s.SendKey != 2 || len(p.a.path.control.keyring.slots) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestExpiredKeysDoNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipe.Configure{KeyLifetime: time.Minute}
		p := newPair(t, pipe.ModeTUN, c)
		p.rekey(1)
		time.Sleep(30 * time.Second)
		p.rekey(2)
		sent := 0
		p.a.socket.link(func([]byte) { sent++ })
		p.a.restart(c, 30*time.Second)
		p.a.expect(pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyExpired})
		if s := p.a.stats(); s.ReceiveSlots != 1 || s.SendKey != 2 {
			t.Errorf("%+v", s)
		}
		p.a.heard()
		p.a.restart(c, time.Minute)
		p.a.expect(pipe.RekeyDue{KeyID: 2, Reason: pipe.RekeyExpired})
		p.a.device.put(packet(""))
		if s := p.a.stats(); s.ReceiveSlots != 0 || s.SendKey != 0 || s.Drops.NoKey != 1 || sent != 0 {
			t.Errorf("%d sent: %+v", sent, s)
		}
		if n := len(p.a.engine.made); n != 2 || p.a.engine.wiped() != n {
			t.Errorf("%d of %d ciphers are left", n-p.a.engine.wiped(), n)
		}
	})
}

func TestALimitThatWasReachedStaysReached(t *testing.T) {
	limits := ProtocolLimits()
	for name, change := range map[string]func(*pipe.KeyState){
		"all packet numbers":        func(m *pipe.KeyState) { m.Next = wire.PacketNumber(limits.SendPackets) + 1 },
		"beyond all packet numbers": func(m *pipe.KeyState) { m.Next = noCounter },
		"all bytes":                 func(m *pipe.KeyState) { m.SendBytes = limits.SendBytes + 1 },
		"the end was noticed":       func(m *pipe.KeyState) { m.SendOver = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, pipe.ModeTUN, pipe.Configure{Keepalive: time.Second})
				p.rekey(1)
				sent := 0
				states, end := p.a.handOver()
				p.a.socket.link(func([]byte) { sent++ })
				change(states[0])
				if states[0].SendOver {
					end.SendKey = 0
				}
				if answer := p.a.resume(pipe.Configure{Keepalive: time.Second}, states, end); answer.Err != "" {
					t.Error(answer.Err)
				}
				p.a.device.put(packet(""))
				p.a.tell(pipe.Activate{KeyID: 1})
				time.Sleep(time.Minute)
				if s := p.a.stats(); s.SendKey != 0 || sent != 0 || s.Drops.NoKey != 1 {
					t.Errorf("%d sent: %+v", sent, s)
				}
				deliver(t, p.b, p.a, packet(""))
			})
		})
	}
}

func TestForgeriesCountOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ProtocolLimits()
		l.FailedOpens = 10
		p := newLimitedPair(t, pipe.ModeTUN, pipe.Configure{}, l)
		p.rekey(1)
		for i := range 11 {
			forged := wire.Header{Type: wire.TypeData, Index: p.b.index(1, 0), Number: 1 << 20}.Append(nil)
			p.b.socket.put(append(forged, make([]byte, 60)...))
			synctest.Wait()
			if i == 5 {
				p.b.restart(pipe.Configure{}, 0)
			}
		}
		if s := p.b.stats(); s.ReceiveSlots != 0 || s.Drops.Auth != 10 || s.SendKey != 1 {
			t.Errorf("%+v", s)
		}
		p.b.heard()
		p.b.restart(pipe.Configure{}, 0)
		p.b.expect()
		if s := p.b.stats(); s.ReceiveSlots != 0 || s.SendKey != 1 {
			t.Errorf("%+v", s)
		}
		deliver(t, p.b, p.a, packet(""))
	})
}

// spoiled are changes after which nothing can be taken over.
var spoiled = map[string]func(states []*pipe.KeyState, end *pipe.HandedOver) []*pipe.KeyState{
	"a key is missing": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState { return s[1:] },
	"a key too many": func(s []*pipe.KeyState, end *pipe.HandedOver) []*pipe.KeyState {
		end.Keys--
		return s
	},
	"keys out of order": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		slices.Reverse(s)
		return s
	},
	"a key twice": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		again := *s[0]
		s[1] = &again
		return s
	},
	"generations out of order": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		slices.Reverse(s[0].Slots)
		return s
	},
	"an index twice": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		s[1].Slots[0].ReceiveIndex = s[0].Slots[0].ReceiveIndex
		return s
	},
	"installed in the future": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		s[1].Installed += time.Hour
		return s
	},
	"packet numbers that would begin anew": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		s[0].Next = 1<<64 - 1
		return s
	},
	"bytes that would begin anew": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		s[0].SendBytes = 1<<64 - 1
		return s
	},
	"no replay window": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		s[1].Window = replay.State{Next: 100}
		return s
	},
	"newer than the newest": func(s []*pipe.KeyState, end *pipe.HandedOver) []*pipe.KeyState {
		end.NewestKey = 1
		return s
	},
	"sends with what is newer than the newest": func(s []*pipe.KeyState, end *pipe.HandedOver) []*pipe.KeyState {
		end.FloorKey = 9
		return s
	},
	"sends with no key": func(s []*pipe.KeyState, end *pipe.HandedOver) []*pipe.KeyState {
		end.SendKey, end.FloorKey, end.NewestKey = 9, 9, 9
		return s
	},
	"sends with an older key than before": func(s []*pipe.KeyState, end *pipe.HandedOver) []*pipe.KeyState {
		end.SendKey = 1
		return s
	},
	"sends with a generation of no key": func(s []*pipe.KeyState, end *pipe.HandedOver) []*pipe.KeyState {
		end.SendKey, end.SendGeneration = 0, 1
		return s
	},
	"sends with a key that has ended": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		s[1].SendOver = true
		return s
	},
	"more keys than there is room for": func(s []*pipe.KeyState, end *pipe.HandedOver) []*pipe.KeyState {
		for id := keys.KeyID(3); id <= pipe.MaxKeys+1; id++ {
			more := *s[0]
			more.KeyID, more.Slots = id, []pipe.SlotState{{SendIndex: 1, ReceiveIndex: wire.Index(id)}}
			s = append(s, &more)
			end.Keys++
			end.NewestKey = id
		}
		return s
	},
	"more generations than there is room for": func(s []*pipe.KeyState, _ *pipe.HandedOver) []*pipe.KeyState {
		for g := keys.Generation(1); g < pipe.MaxSlots; g++ {
			s[1].Slots = append(s[1].Slots, pipe.SlotState{Generation: g, SendIndex: 1, ReceiveIndex: wire.Index(g)})
		}
		return s
	},
}

func TestWhatCannotBeTakenOverIsRefusedAsAWhole(t *testing.T) {
	for name, spoil := range spoiled {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, pipe.ModeTUN, pipe.Configure{})
				p.rekey(1)
				p.reiv(1, 1)
				p.rekey(2)
				states, end := p.a.handOver()
				sent := 0
				p.a.socket.link(func([]byte) { sent++ })
				states = spoil(states, &end)
				if answer := p.a.resume(pipe.Configure{}, states, end); answer.Err == "" || answer.Seq != 7 {
					t.Errorf("%+v", answer)
				}
				p.a.device.put(packet("", 1))
				s := p.a.stats()
				if s.SendKey != 0 || s.ReceiveSlots != 0 || s.Drops != (pipe.Drops{NoKey: 1}) || sent != 0 || s.TxPackets != 0 {
					t.Errorf("%d sent: %+v", sent, s)
				}
				time.Sleep(time.Minute)
				if n := len(p.a.engine.made); p.a.engine.wiped() != n {
					t.Errorf("%d of %d ciphers are left", n-p.a.engine.wiped(), n)
				}
				p.a.socket.link(p.b.socket.put)
				p.rekey(10)
				deliver(t, p.a, p.b, packet("", 2))
				deliver(t, p.b, p.a, packet("", 3))
			})
		})
	}
}

func TestHandingOverOutOfTurnIsFatal(t *testing.T) {
	key := &pipe.KeyState{KeyID: 1, AEAD: keys.AES256GCM, Slots: []pipe.SlotState{{SendIndex: 1, ReceiveIndex: 1}}}
	configure := pipe.Configure{Mode: pipe.ModeTUN, KeyLifetime: time.Hour}
	await := configure
	await.Await = true
	tests := map[string][]pipe.Message{
		"a key before the configuration":        {key},
		"resuming before the configuration":     {pipe.Resume{}},
		"handing over before the configuration": {pipe.HandOver{}},
		"a key that is not awaited":             {configure, key},
		"resuming what is not awaited":          {configure, pipe.Resume{}},
		"resuming twice":                        {await, pipe.Resume{}, pipe.Resume{}},
		"a key after resuming":                  {await, pipe.Resume{}, key},
		"a later configuration cannot await":    {configure, await, pipe.Resume{}},
		"keys without a bound":                  append([]pipe.Message{await}, slices.Repeat([]pipe.Message{key}, pipe.MaxStates+1)...),
	}
	for name, messages := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, pipe.ModeTUN, Limits{})
				for _, m := range messages {
					_ = n.Send(m) // the child may hang up before it has read all of it
				}
				if err := n.end(); err == nil {
					t.Error("ended without an error")
				}
				synctest.Wait()
				said := n.heard()
				if len(said) == 0 || said[len(said)-1].Type() != pipe.TypeFatal {
					t.Errorf("said %+v", said)
				}
			})
		})
	}
}

func TestADatapathWithoutKeysHandsOverItsCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, pipe.ModeTUN, Limits{})
		n.configure(pipe.Configure{})
		n.device.put(packet(""))
		synctest.Wait()
		states, end := n.handOver()
		if len(states) != 0 || end.NewestKey != 0 || end.Totals.Drops.NoKey != 1 || end.Totals.LastReceived >= 0 {
			t.Errorf("%d keys, %+v", len(states), end)
		}
		n.resume(pipe.Configure{}, states, end)
		if s := n.stats(); s.Drops.NoKey != 1 || s.LastReceived >= 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestADatapathThatAwaitsHandsOverNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		states, end := p.a.handOver()
		p.a.succeed(pipe.Configure{})
		for _, m := range states {
			p.a.tell(m)
		}
		if states, again := p.a.handOver(); len(states) != 0 || again.NewestKey != 0 || end.NewestKey != 1 {
			t.Errorf("%d keys, %+v", len(states), again)
		}
	})
}

func TestALostDeviceIsNotHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		synctest.Wait()
		var sent [][]byte
		p.b.socket.link(func(d []byte) { sent = append(sent, d) })
		p.b.tell(pipe.SendProbe{ID: 1})
		p.b.device.put(packet(""))
		synctest.Wait()
		let := make(chan struct{})
		p.a.socket.link(func([]byte) { <-let })
		for _, d := range sent[:2] { // its answer to the probe takes time, before it comes to the packet
			p.a.socket.put(d)
		}
		synctest.Wait()
		p.a.heard()
		p.a.tell(pipe.HandOver{})
		p.a.expect() // it waits for the batch in work
		p.a.device.mu.Lock()
		p.a.device.writing = tuntap.ErrGone
		p.a.device.mu.Unlock()
		close(let)
		if err := p.a.end(); err == nil {
			t.Error("ended without an error")
		}
		p.a.expect(pipe.Fatal{Reason: pipe.ReasonDeviceGone})
	})
}

func TestHandingOverLeavesNoKeyBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.rekey(2)
		p.reiv(2, 1)
		var epochs []*epoch
		for _, s := range p.a.path.control.keyring.slots {
			epochs = append(epochs, s.epoch)
		}
		zero := keys.DataKey{}
		if epochs[0].send.key == zero || epochs[0].receive.key == zero {
			t.Fatal("no key to lose")
		}
		p.a.handOver()
		if n := len(p.a.engine.made); n != 4 || p.a.engine.wiped() != n {
			t.Errorf("%d of %d ciphers are left", n-p.a.engine.wiped(), n)
		}
		for _, e := range epochs {
			if e.send.key != zero || e.receive.key != zero {
				t.Error("key bytes are left")
			}
		}
	})
}

func TestTheSuccessorWipesWhatItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		states, end := p.a.handOver()
		p.a.succeed(pipe.Configure{})
		for _, m := range states {
			p.a.tell(m)
		}
		synctest.Wait()
		told := slices.Clone(p.a.path.control.states)
		if len(told) != 1 || told[0].Send == (keys.DataKey{}) {
			t.Fatalf("%d states", len(told))
		}
		p.a.tell(pipe.Resume{End: end})
		synctest.Wait()
		if told[0].Send != (keys.DataKey{}) || told[0].Receive != (keys.DataKey{}) || p.a.path.control.states != nil {
			t.Error("key bytes are left")
		}
	})
}

func TestKeysOfTheKeyringAreNeverPrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		synctest.Wait()
		c := p.a.path.control
		s := c.keyring.sending
		e := s.epoch
		secrets := [][]byte{e.send.key.Key[:6], e.receive.key.Key[16:22], e.send.key.IV[6:]}
		ring := keyring{slots: []*slot{s}, sending: s, dead: []*epoch{e}}
		all := []any{
			s, e, &e.send, &e.receive, []*slot{s}, []*epoch{e}, map[int]*slot{1: s}, struct{ S *slot }{s}, struct{ s *slot }{s},
			&ring, struct{ K *keyring }{&ring}, c.table.Load(), &group{slot: s}, grave{epoch: e}, &grave{epoch: e}, []grave{{epoch: e}},
			c, p.a.path, struct{ D *Datapath }{p.a.path},
		}
		for _, v := range all {
			for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%s", "%q", "%d", "%o", "%b", "%U", "%t", "%e", "%z"} {
				if text := fmt.Sprintf(verb, v); shows(text, secrets) {
					t.Errorf("%s of %T shows a key: %.200s", verb, v, text)
				}
			}
		}
	})
}

// shows says whether a text has the bytes of a secret in it, in any way that fmt may write them.
func shows(text string, secrets [][]byte) bool {
	for _, secret := range secrets {
		for _, form := range []string{"%d", "%x", "%X", "%#x", "% x", "%s", "%q", "%o", "%b", "%U", "%v", "%#v", "%t", "%e", "%z"} {
			printed := strings.Trim(strings.TrimPrefix(fmt.Sprintf(form, secret), "[]byte"), "[]{}\"")
			if len(printed) > 3 && strings.Contains(text, printed) {
				return true
			}
		}
	}
	return false
}
