package datapath

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/wire"
)

func TestInstallationIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		for id := keys.KeyID(1); id <= 7; id++ {
			p.a.install(p.b, id, false)
		}
		p.a.heard()
		p.a.install(p.b, 7, false)
		p.a.expect(pipe.Installed{KeyID: 7, Err: errNotNewer.Error()})
		p.a.installIV(p.b, 7, 0, false)
		p.a.expect(pipe.Installed{KeyID: 7, Err: errNotNewer.Error()})
		p.a.installIV(p.b, 8, 1, false)
		p.a.expect(pipe.Installed{KeyID: 8, Generation: 1, Err: errNoKey.Error()})
		p.a.tell(pipe.InstallIV{KeyID: 7, Generation: 1, SendIndex: 1, ReceiveIndex: p.a.index(3, 0)})
		p.a.expect(pipe.Installed{KeyID: 7, Generation: 1, Err: errIndex.Error()})
		p.a.installIV(p.b, 7, 1, false)
		p.a.expect(pipe.Installed{KeyID: 7, Generation: 1})
	})
}

func TestOneKeyTooManyIsRefusedUntilOneIsRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		for id := keys.KeyID(1); id <= pipe.MaxKeys; id++ {
			p.a.install(p.b, id, false)
		}
		p.a.heard()
		p.a.install(p.b, 9, false)
		p.a.expect(pipe.Installed{KeyID: 9, Err: errNoRoom.Error()})
		p.a.installIV(p.b, 8, 1, false)
		p.a.expect(pipe.Installed{KeyID: 8, Generation: 1})
		p.a.tell(pipe.Retire{KeyID: 2})
		p.a.install(p.b, 9, false)
		p.a.expect(pipe.Installed{KeyID: 9})
	})
}

func TestOneGenerationTooManyIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.a.install(p.b, 1, false)
		for g := keys.Generation(1); g < pipe.MaxSlots; g++ {
			p.a.installIV(p.b, 1, g, false)
		}
		p.a.heard()
		p.a.installIV(p.b, 1, pipe.MaxSlots, false)
		p.a.expect(pipe.Installed{KeyID: 1, Generation: pipe.MaxSlots, Err: errNoRoom.Error()})
		if s := p.a.stats(); s.ReceiveSlots != pipe.MaxSlots {
			t.Errorf("%d slots", s.ReceiveSlots)
		}
	})
}

func TestKeysEndWithTheirLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{KeyLifetime: time.Minute})
		p.rekey(1)
		time.Sleep(30 * time.Second)
		p.rekey(2)
		p.a.heard()
		time.Sleep(30*time.Second - 1)
		p.a.expect()
		time.Sleep(time.Second)
		p.a.expect(pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyExpired})
		deliver(t, p.a, p.b, packet(""))
		time.Sleep(30 * time.Second)
		p.a.expect(pipe.RekeyDue{KeyID: 2, Reason: pipe.RekeyExpired})
		p.a.device.put(packet(""))
		if s := p.a.stats(); s.SendKey != 0 || s.ReceiveSlots != 0 || s.Drops.NoKey != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAShorterLifetimeCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		time.Sleep(time.Minute)
		p.a.heard()
		p.a.configure(pipe.Configure{Seq: 3, KeyLifetime: 30 * time.Second})
		p.a.expect(pipe.Configured{Seq: 3}, pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyExpired})
	})
}

func TestTheLoopsEndAKeyThoughControlsTimerIsLate(t *testing.T) {
	k := keys.KeyID(1)
	tb := &table{lifetime: time.Minute}
	e := &epoch{installed: time.Second}
	s := &slot{name: name{id: k}, epoch: e, receiveIndex: 5}
	tb.send, tb.receive = s, []*slot{s}
	sh := &shared{limits: ProtocolLimits(), wake: make(chan struct{}, 1)}
	in, out := &inbound{shared: sh}, &outbound{shared: sh}
	if in.find(tb, 5, time.Minute) != s {
		t.Error("not found before its end")
	}
	if in.find(tb, 5, time.Minute+time.Second) != nil || len(sh.wake) != 1 {
		t.Error("found after its end")
	}
	if key, _ := out.reserve(tb, time.Minute+time.Second); key != nil {
		t.Error("taken for sealing after its end")
	}
}

func TestSoftLimitsAskOnceForASuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Limits{RekeyPackets: 10, RekeyBytes: 2000, SendPackets: 100, SendBytes: 1e6, FailedOpens: 10}
		p := newLimitedPair(t, pipe.ModeTUN, pipe.Configure{}, l)
		p.rekey(1)
		p.a.heard()
		p.b.heard()
		for range 20 {
			p.a.device.put(packet(""))
			synctest.Wait()
		}
		due := pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyPackets}
		p.a.expect(due)
		p.b.expect(due)
		for range 2 {
			p.a.device.put(packet("", make([]byte, 1000)...))
			synctest.Wait()
		}
		due.Reason = pipe.RekeyBytes
		p.a.expect(due)
		p.b.expect(due)
	})
}

func TestHardLimitsEndTheSendKey(t *testing.T) {
	for _, l := range []Limits{
		{RekeyPackets: 1000, RekeyBytes: 1e6, SendPackets: 10, SendBytes: 1e6, FailedOpens: 10},
		{RekeyPackets: 1000, RekeyBytes: 1e6, SendPackets: 1000, SendBytes: 250, FailedOpens: 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newLimitedPair(t, pipe.ModeTUN, pipe.Configure{}, l)
			p.rekey(1)
			p.a.heard()
			for range 20 {
				p.a.device.put(packet(""))
				synctest.Wait()
			}
			p.a.expect(pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyExpired})
			s := p.a.stats()
			if s.SendKey != 0 || s.ReceiveSlots != 1 || s.Drops.NoKey == 0 {
				t.Errorf("%+v", s)
			}
			if s.TxPackets == 0 || s.TxPackets > 10 {
				t.Errorf("sent %d", s.TxPackets)
			}
			deliver(t, p.b, p.a, packet("")) // its receive key goes on
			p.a.tell(pipe.Activate{KeyID: 1})
			if s := p.a.stats(); s.SendKey != 0 {
				t.Error("an ended key was activated")
			}
			p.rekey(2)
			deliver(t, p.a, p.b, packet(""))
		})
	}
}

func TestTooManyForgeriesEndTheReceiveKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ProtocolLimits()
		l.FailedOpens = 10
		p := newLimitedPair(t, pipe.ModeTUN, pipe.Configure{}, l)
		p.rekey(1)
		p.b.heard()
		forge := func() {
			forged := wire.Header{Type: wire.TypeData, Index: p.b.index(1, 0), Number: 1 << 20}.Append(nil)
			p.b.socket.put(append(forged, make([]byte, 60)...))
			synctest.Wait()
		}
		for range 9 {
			forge()
		}
		deliver(t, p.a, p.b, packet(""))
		p.b.expect()
		forge()
		forge()
		p.b.expect(pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyExpired})
		s := p.b.stats()
		if s.Drops.Auth != 10 || s.Drops.Unknown != 1 || s.ReceiveSlots != 0 || s.SendKey != 1 {
			t.Errorf("%+v", s)
		}
		deliver(t, p.b, p.a, packet("")) // its send key goes on
	})
}
