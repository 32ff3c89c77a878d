package datapath

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/pipe"
	"tund/internal/wire"
)

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

func TestLimitsAreCountedOverHandOvers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ProtocolLimits()
		l.RekeyPackets, l.RekeyBytes = 9, 500
		p := newLimitedPair(t, pipe.ModeTUN, pipe.Configure{}, l)
		p.rekey(1)
		p.b.heard()
		for i := range 10 {
			deliver(t, p.a, p.b, packet("", make([]byte, 30)...))
			if i == 4 {
				p.b.restart(pipe.Configure{}, 0)
			}
		}
		p.b.expect(pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyPackets}, pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyBytes})
	})
}

func TestCountersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.b.socket.link(func(d []byte) { time.AfterFunc(time.Millisecond, func() { p.a.socket.put(d) }) })
		p.rekey(1)
		time.Sleep(time.Second)
		deliver(t, p.a, p.b, packet("", 1), packet("", 2))
		p.a.socket.put([]byte("stranger"))
		p.a.device.put([]byte{1})
		p.b.device.put(packet("", 3))
		time.Sleep(time.Second)
		before := p.a.stats()
		p.a.restart(pipe.Configure{}, time.Second)
		after := p.a.stats()
		if before.Received == 0 || before.RTT == 0 || before.Drops.Malformed != 2 || after.LastReceived != before.LastReceived+time.Second {
			t.Errorf("before %+v, after %+v", before, after)
		}
		after.LastReceived = before.LastReceived
		if after != before {
			t.Errorf("before %+v, after %+v", before, after)
		}
	})
}

func TestALateDatagramIsStillMissedAndThenTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		var late [][]byte
		p.a.socket.link(func(d []byte) { late = append(late, d) })
		p.a.device.put(packet("", 1))
		p.a.device.put(packet("", 2))
		synctest.Wait()
		p.a.socket.link(p.b.socket.put)
		deliver(t, p.a, p.b, packet("", 3))
		p.b.restart(pipe.Configure{}, 0)
		if s := p.b.stats(); s.Missing != 2 {
			t.Errorf("%d missing", s.Missing)
		}
		p.b.socket.put(late[1])
		p.b.socket.put(late[1])
		if s := p.b.stats(); s.Missing != 1 || s.Drops.Replay != 1 {
			t.Errorf("%+v", s)
		}
		deliver(t, p.a, p.b, packet("", 4))
		if s := p.b.stats(); s.Missing != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAKeepaliveIsNotSentBeforeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipe.Configure{Keepalive: 10 * time.Second}
		p := newPair(t, pipe.ModeTUN, c)
		p.rekey(1)
		synctest.Wait()
		var sent atomic.Int32
		p.a.socket.link(func([]byte) { sent.Add(1) })
		p.a.restart(c, 3*time.Second)
		time.Sleep(7*time.Second - 1)
		if synctest.Wait(); sent.Load() != 0 {
			t.Errorf("%d sent before", sent.Load())
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); sent.Load() == 0 {
			t.Error("none sent")
		}
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

func TestASlotThatServesNothingIsNotTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.rekey(2)
		states, end := p.a.handOver()
		states[0].Slots[0].Retired = true
		p.a.resume(pipe.Configure{}, states, end)
		if n := len(p.a.path.control.keyring.slots); n != 1 || p.a.engine.wiped() != 2 {
			t.Errorf("%d slots, %d ciphers wiped", n, p.a.engine.wiped())
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
