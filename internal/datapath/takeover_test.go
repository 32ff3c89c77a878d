package datapath

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/replay"
	"tund/internal/tuntap"
	"tund/internal/wire"
)

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
