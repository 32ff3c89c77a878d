package datapath

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/pipe"
	"tund/internal/wire"
)

// sentAt records when a node sends probes, instead of sending anything.
func sentAt(n *node) *[]time.Duration {
	start := time.Now()
	times := &[]time.Duration{}
	n.socket.link(func(d []byte) {
		if h, err := wire.ParseHeader(d); err == nil && h.Type == wire.TypeProbe {
			*times = append(*times, time.Since(start))
		}
	})
	return times
}

func TestASwitchIsProbedUntilTheKeyIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.b.install(p.a, 1, false)
		times := sentAt(p.a)
		p.a.install(p.b, 1, true)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		want := []time.Duration{0, 250, 750, 1750, 3750, 5750}
		if len(*times) != len(want) {
			t.Fatalf("probes at %v", *times)
		}
		for i, at := range *times {
			if at != want[i]*time.Millisecond {
				t.Errorf("probe %d at %v, want %v ms", i, at, want[i])
			}
		}
		p.b.tell(pipe.Activate{KeyID: 1})
		synctest.Wait()
		p.b.socket.link(func([]byte) {}) // it hears nothing and asks on, which a would answer
		sent := len(*times)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(*times) > sent {
			t.Errorf("%d probes after the key was heard", len(*times)-sent)
		}
	})
}

func TestAProbeConfirmsTheSwitchOnBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.a.expect(pipe.Installed{KeyID: 1}, pipe.KeyActive{KeyID: 1})
		p.b.expect(pipe.Installed{KeyID: 1}, pipe.KeyActive{KeyID: 1})
		p.reiv(1, 1)
		p.a.expect(pipe.Installed{KeyID: 1, Generation: 1}, pipe.KeyActive{KeyID: 1, Generation: 1})
		p.b.expect(pipe.Installed{KeyID: 1, Generation: 1}, pipe.KeyActive{KeyID: 1, Generation: 1})
	})
}

func TestSilenceIsBrokenByKeepalives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{Keepalive: 10 * time.Second})
		p.rekey(1)
		p.b.configure(pipe.Configure{}) // no probes of its own, which a would answer
		times := sentAt(p.a)
		time.Sleep(4 * time.Second)
		p.a.device.put(packet("")) // silent neither way: the keepalive moves
		p.b.device.put(packet(""))
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if len(*times) != 2 || (*times)[0] != 14*time.Second || (*times)[1] != 24*time.Second {
			t.Errorf("probes at %v", *times)
		}
	})
}

func TestAPeerThatOnlyListensIsAskedForASign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{Keepalive: 10 * time.Second})
		p.rekey(1)
		p.b.configure(pipe.Configure{Keepalive: 10 * time.Minute})
		for range 60 {
			time.Sleep(time.Second)
			p.a.device.put(packet(""))
			synctest.Wait()
			if age := p.a.stats().LastReceived; age > 11*time.Second {
				t.Fatalf("nothing received for %v", age)
			}
		}
	})
}

func TestNoKeepaliveWithoutAKeyOrWithoutAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{Keepalive: 10 * time.Second})
		times := sentAt(p.a)
		time.Sleep(time.Minute)
		q := newPair(t, pipe.ModeTUN, pipe.Configure{})
		q.rekey(1)
		silent := sentAt(q.a)
		time.Sleep(time.Minute)
		if len(*times) != 0 || len(*silent) != 0 {
			t.Errorf("without a key %v, without an interval %v", *times, *silent)
		}
	})
}

func TestAKeepaliveMeasuresTheRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{Keepalive: time.Second})
		slow := func(put func([]byte)) func([]byte) {
			return func(d []byte) { time.AfterFunc(30*time.Millisecond, func() { put(d) }) }
		}
		p.a.socket.link(slow(p.b.socket.put))
		p.b.socket.link(slow(p.a.socket.put))
		p.rekey(1)
		time.Sleep(5 * time.Second)
		if s := p.a.stats(); s.RTT != 60*time.Millisecond {
			t.Errorf("round trip %v", s.RTT)
		}
	})
}

func TestLastReceivedIsAnAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		if s := p.a.stats(); s.LastReceived >= 0 {
			t.Errorf("before anything: %v", s.LastReceived)
		}
		p.rekey(1)
		time.Sleep(3 * time.Second)
		if s := p.a.stats(); s.LastReceived != 3*time.Second {
			t.Errorf("after 3 s: %v", s.LastReceived)
		}
	})
}

func TestSendProbeMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		deliver(t, p.b, p.a, packet(""), packet(""))
		p.b.socket.link(func(d []byte) { time.AfterFunc(7*time.Millisecond, func() { p.a.socket.put(d) }) })
		p.a.heard()
		received := p.b.stats().Received
		p.a.tell(pipe.SendProbe{ID: 99})
		time.Sleep(100 * time.Millisecond)
		p.a.expect(pipe.ProbeResult{
			ID: 99, OK: true, RTT: 7 * time.Millisecond,
			Received: received + 1, LocalReceived: p.a.stats().Received,
		})
	})
}

func TestSendProbeIsRepeatedAndFailsAfterASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.a.heard()
		times := sentAt(p.a)
		p.a.tell(pipe.SendProbe{ID: 5})
		time.Sleep(999 * time.Millisecond)
		p.a.expect()
		time.Sleep(time.Millisecond)
		p.a.expect(pipe.ProbeResult{ID: 5, LocalReceived: p.a.stats().Received})
		if len(*times) != 5 || (*times)[4] != 800*time.Millisecond {
			t.Errorf("probes at %v", *times)
		}
	})
}

func TestSendProbeTakesTheAnswerToARepetition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.a.heard()
		sent := 0
		p.a.socket.link(func(d []byte) {
			if sent++; sent > 2 {
				p.b.socket.put(d)
			}
		})
		p.a.tell(pipe.SendProbe{ID: 5})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		said := p.a.heard()
		if len(said) != 1 || !said[0].(pipe.ProbeResult).OK || sent != 3 {
			t.Errorf("sent %d, %+v", sent, said)
		}
	})
}

func TestSendProbeWithoutAKeyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.a.tell(pipe.SendProbe{ID: 5})
		time.Sleep(time.Second)
		p.a.expect(pipe.ProbeResult{ID: 5})
	})
}

func TestTooManySendProbesFailAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		for id := range uint64(maxTests) {
			p.a.tell(pipe.SendProbe{ID: id})
		}
		p.a.expect()
		p.a.tell(pipe.SendProbe{ID: 100})
		p.a.expect(pipe.ProbeResult{ID: 100})
	})
}

// requestsOf seals probe requests as peer would, with numbers far ahead.
func requestsOf(p pair, count int) [][]byte {
	var all [][]byte
	p.b.install(p.a, 50, false)
	k := &keyring{limits: &Limits{}, engine: p.a.path.control.keyring.engine}
	*k.limits = ProtocolLimits()
	s, err := k.install(&pipe.InstallKey{
		KeyID: 50, Epoch: 50, AEAD: 1, Send: dataKey(byte(p.a.base>>16), 50), SendIndex: p.b.index(50, 0), ReceiveIndex: 1,
	}, 0)
	if err != nil {
		panic(err)
	}
	sh := &shared{limits: *k.limits, wake: make(chan struct{}, 1)}
	for i := range count {
		var buffer sealed
		d, _ := buffer.seal(sh, s, wire.Probe{Kind: wire.ProbeRequest, ID: uint64(i)})
		all = append(all, d)
	}
	return all
}

func TestAtMostTwentyProbesAreAnsweredInASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		requests := requestsOf(p, 1000)
		times := sentAt(p.b)
		for i, d := range requests {
			p.b.socket.put(d)
			if i%2 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		synctest.Wait()
		// The switch to the new key sent one more.
		if answers := len(*times) - 1; answers < 75 || answers > 20*5 {
			t.Errorf("%d answers in 5 s", answers)
		}
		for i, at := range *times {
			if i > 21 && at-(*times)[i-21] < time.Second {
				t.Errorf("22 probes between %v and %v", (*times)[i-21], at)
			}
		}
	})
}

func TestAReplayedProbeIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		d := requestsOf(p, 1)[0]
		p.b.socket.put(d)
		time.Sleep(5 * time.Second)
		times := sentAt(p.b)
		p.b.socket.put(d)
		if s := p.b.stats(); len(*times) != 0 || s.Drops.Replay != 1 {
			t.Errorf("answered at %v, %+v", *times, s.Drops)
		}
	})
}

func TestAnAnswerIsNoLargerThanItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		d := requestsOf(p, 1)[0]
		p.b.socket.link(func(answer []byte) {
			if len(answer) > len(d) {
				t.Errorf("%d bytes answer %d", len(answer), len(d))
			}
		})
		p.b.socket.put(d)
		synctest.Wait()
	})
}

func TestAnswersThatNobodyAskedForChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		rtt := p.a.stats().RTT
		s := p.b.path.control.keyring.sending
		var buffer sealed
		p.a.heard()
		for i := range uint64(100) {
			d, _ := buffer.seal(p.b.path.control.shared, s, wire.Probe{Kind: wire.ProbeAnswer, ID: i, Stamp: 1})
			p.a.socket.put(d)
		}
		time.Sleep(time.Second)
		p.a.expect()
		if got := p.a.stats(); got.RTT != rtt || got.Received < 100 {
			t.Errorf("%+v", got)
		}
	})
}
