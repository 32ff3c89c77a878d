package datapath

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/wire"
)

func TestPacketsCrossBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		deliver(t, p.a, p.b, packet("", 1, 2, 3), packet("2001:db8::1", 4))
		deliver(t, p.b, p.a, packet("", 5))
		a, b := p.a.stats(), p.b.stats()
		if a.TxPackets != 2 || a.TxBytes != 23+41 || b.RxPackets != 2 || b.RxBytes != 23+41 {
			t.Errorf("a sent %+v, b received %+v", a, b)
		}
		if b.TxPackets != 1 || a.RxPackets != 1 || a.Drops != (pipe.Drops{}) || b.Drops != (pipe.Drops{}) {
			t.Errorf("a %+v, b %+v", a, b)
		}
		if a.SendKey != 1 || b.SendKey != 1 || a.ReceiveSlots != 1 || b.ReceiveSlots != 1 {
			t.Errorf("a %+v, b %+v", a, b)
		}
	})
}

func TestBothAEADsCarryPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for id, aead := range []keys.AEAD{keys.AES256GCM, keys.ChaCha20Poly1305} {
			p := newPair(t, pipe.ModeTUN, pipe.Configure{})
			for _, n := range []*node{p.b, p.a} {
				peer := p.a
				if n == p.a {
					peer = p.b
				}
				n.tell(&pipe.InstallKey{
					KeyID: 1, Epoch: 1, AEAD: aead,
					Send: dataKey(byte(n.base>>16), 1), Receive: dataKey(byte(peer.base>>16), 1),
					SendIndex: peer.index(1, 0), ReceiveIndex: n.index(1, 0), Activate: true,
				})
				synctest.Wait()
			}
			deliver(t, p.a, p.b, packet("", byte(id)))
		}
	})
}

func TestRekeyBreaksNothingAndTellsTheParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		for id := keys.KeyID(1); id <= 3; id++ {
			p.b.install(p.a, id, false)
			p.b.expect(pipe.Installed{KeyID: id})
			if id > 1 {
				deliver(t, p.a, p.b, packet("", 'o', byte(id)))
				deliver(t, p.b, p.a, packet("", 'p', byte(id)))
			}
			// The probe that goes with the switch confirms the key on both sides.
			p.a.install(p.b, id, true)
			p.a.expect(pipe.Installed{KeyID: id}, pipe.KeyActive{KeyID: id})
			p.b.expect(pipe.KeyActive{KeyID: id})
			deliver(t, p.a, p.b, packet("", 'n', byte(id)))
			deliver(t, p.b, p.a, packet("", 'm', byte(id)))
			if s := p.b.stats(); s.SendKey != id {
				t.Errorf("b sends with %d", s.SendKey)
			}
			p.a.tell(pipe.Retire{KeyID: id})
			p.b.tell(pipe.Retire{KeyID: id})
			deliver(t, p.a, p.b, packet("", 'r', byte(id)))
			if s := p.a.stats(); s.ReceiveSlots != 1 {
				t.Errorf("%d slots after the retirement", s.ReceiveSlots)
			}
		}
	})
}

func TestAPendingKeyIsSentWithAtItsFirstAuthenticPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.b.install(p.a, 2, false)
		if s := p.b.stats(); s.SendKey != 1 {
			t.Fatalf("b sends with %d before anything came", s.SendKey)
		}
		// Only data, no probe, so that data alone must do it.
		p.a.socket.link(func(d []byte) {
			if h, _ := wire.ParseHeader(d); h.Type == wire.TypeData {
				p.b.socket.put(d)
			}
		})
		p.a.install(p.b, 2, true)
		if s := p.b.stats(); s.SendKey != 1 {
			t.Errorf("b sends with %d before the first packet", s.SendKey)
		}
		deliver(t, p.a, p.b, packet(""))
		if s := p.b.stats(); s.SendKey != 2 {
			t.Errorf("b sends with %d after the first packet", s.SendKey)
		}
	})
}

func TestAForgedPacketActivatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.b.install(p.a, 2, false)
		p.b.heard()
		forged := wire.Header{Type: wire.TypeData, Index: p.b.index(2, 0)}.Append(nil)
		p.b.socket.put(append(forged, make([]byte, 60)...))
		p.b.expect()
		if s := p.b.stats(); s.SendKey != 1 || s.Drops.Auth != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSendingNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.b.install(p.a, 2, false)
		p.rekey(3)
		p.a.install(p.b, 2, false) // refused: not newer
		p.b.tell(pipe.Activate{KeyID: 2})
		p.b.tell(pipe.Activate{KeyID: 1})
		p.b.tell(pipe.Activate{KeyID: 99})
		if s := p.b.stats(); s.SendKey != 3 {
			t.Errorf("b sends with %d", s.SendKey)
		}
		p.b.tell(pipe.Drop{KeyID: 3})
		p.b.tell(pipe.Activate{KeyID: 2})
		if s := p.b.stats(); s.SendKey != 0 {
			t.Errorf("b sends with %d after the newest was dropped", s.SendKey)
		}
	})
}

func TestActivateSwitchesSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.a.install(p.b, 1, false)
		p.b.install(p.a, 1, false)
		p.a.device.put(packet(""))
		if s := p.a.stats(); s.SendKey != 0 || s.Drops.NoKey != 1 {
			t.Errorf("pending: %+v", s)
		}
		p.a.tell(pipe.Activate{KeyID: 1})
		deliver(t, p.a, p.b, packet(""))
		deliver(t, p.b, p.a, packet(""))
	})
}

func TestGenerationsShareNumbersAndWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		var sent []wire.Header
		var datagrams [][]byte
		p.a.socket.link(func(d []byte) {
			h, _ := wire.ParseHeader(d)
			sent = append(sent, h)
			datagrams = append(datagrams, d)
			p.b.socket.put(d)
		})
		p.rekey(1)
		deliver(t, p.a, p.b, packet("", 0))
		for g := keys.Generation(1); g <= 3; g++ {
			p.reiv(1, g)
			deliver(t, p.a, p.b, packet("", byte(g)))
			deliver(t, p.b, p.a, packet("", byte(g)))
			if s := p.b.stats(); s.SendKey != 1 || s.SendGeneration != g {
				t.Errorf("b sends with %d.%d", s.SendKey, s.SendGeneration)
			}
		}
		for i, h := range sent {
			if h.Number != wire.PacketNumber(i) {
				t.Errorf("datagram %d has number %d", i, h.Number)
			}
		}
		received := p.b.stats().Received
		for _, d := range datagrams {
			p.b.socket.put(d)
		}
		if s := p.b.stats(); s.Received != received || s.Drops.Replay != uint64(len(datagrams)) {
			t.Errorf("replayed %d: %+v", len(datagrams), s)
		}
	})
}

func TestReorderingOverEpochsAndGenerationsLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		var held [][]byte
		p.a.socket.link(func(d []byte) { held = append(held, d) })
		want := [][]byte{}
		send := func() {
			for range 5 {
				want = append(want, packet("", byte(len(want))))
				p.a.device.put(want[len(want)-1])
			}
			synctest.Wait()
		}
		p.rekey(1)
		send()
		p.reiv(1, 1)
		send()
		p.rekey(2)
		send()
		p.reiv(2, 1)
		send()
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		for _, d := range held {
			p.b.socket.put(d)
		}
		synctest.Wait()
		got := p.b.device.got()
		slices.SortFunc(got, bytes.Compare)
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("got %d of %d packets", len(got), len(want))
		}
		if s := p.b.stats(); s.SendKey != 2 || s.SendGeneration != 1 || s.Missing != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestReplaysAndOldPacketsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		var first []byte
		p.a.socket.link(func(d []byte) {
			if first == nil {
				first = d
			}
			p.b.socket.put(d)
		})
		deliver(t, p.a, p.b, packet("", 1))
		p.b.socket.put(first)
		if s := p.b.stats(); s.Drops.Replay != 1 {
			t.Errorf("%+v", s.Drops)
		}
		// The same, when it is too old to be known.
		p.a.socket.link(func([]byte) {})
		for range 9000 {
			p.a.device.put(packet("", 2))
		}
		synctest.Wait()
		p.a.socket.link(p.b.socket.put)
		deliver(t, p.a, p.b, packet("", 3))
		p.b.socket.put(first)
		s := p.b.stats()
		if s.Drops.Replay != 2 || s.Missing != 9000 {
			t.Errorf("%+v", s)
		}
	})
}

func TestATamperedDatagramIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		var good []byte
		p.a.socket.link(func(d []byte) { good = d })
		p.a.device.put(packet("", 1, 2, 3))
		synctest.Wait()
		before := p.b.stats()
		for bit := range 8 * len(good) {
			d := slices.Clone(good)
			d[bit/8] ^= 1 << (bit % 8)
			p.b.socket.put(d)
		}
		p.b.socket.put(good[:len(good)-1])
		p.b.socket.put(append(slices.Clone(good), 0))
		s := p.b.stats()
		if dropped := s.Drops.Auth + s.Drops.Malformed + s.Drops.Unknown + s.Drops.Replay; dropped != uint64(8*len(good)+2) {
			t.Errorf("dropped %d of %d: %+v", dropped, 8*len(good)+2, s.Drops)
		}
		if s.Received != before.Received || s.RxPackets != 0 {
			t.Errorf("%+v", s)
		}
		p.b.socket.put(good)
		if s := p.b.stats(); s.RxPackets != 1 {
			t.Errorf("the true one: %+v", s)
		}
	})
}

func TestAnUnknownIndexIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.b.socket.put(append(wire.Header{Type: wire.TypeData, Index: 77}.Append(nil), make([]byte, 40)...))
		if s := p.b.stats(); s.Drops.Unknown != 1 {
			t.Errorf("%+v", s.Drops)
		}
	})
}

func TestRetireDropAndWipeEndReceiving(t *testing.T) {
	tests := []struct {
		name    string
		message pipe.Message
		slots   uint8
		sends   bool
	}{
		{"retire what is older", pipe.Retire{KeyID: 2}, 3, true},
		{"retire an older generation", pipe.Retire{KeyID: 3}, 2, true},
		{"retire all but the last", pipe.Retire{KeyID: 3, Generation: 1}, 1, true},
		{"retire spares the sending slot", pipe.Retire{KeyID: 9}, 0, true},
		{"drop one generation", pipe.Drop{KeyID: 3, Generation: 1}, 3, false},
		{"drop a key", pipe.Drop{KeyID: 3}, 2, false},
		{"drop an older key", pipe.Drop{KeyID: 1}, 3, true},
		{"drop what is not there", pipe.Drop{KeyID: 7, Generation: 1}, 4, true},
		{"wipe", pipe.Wipe{Seq: 1}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, pipe.ModeTUN, pipe.Configure{})
				p.rekey(1)
				p.rekey(2)
				p.rekey(3)
				p.reiv(3, 1)
				p.a.tell(tt.message)
				s := p.a.stats()
				if s.ReceiveSlots != tt.slots || (s.SendKey != 0) != tt.sends {
					t.Errorf("%d slots, sends with %d", s.ReceiveSlots, s.SendKey)
				}
				unknown := s.Drops.Unknown
				p.b.device.put(packet("")) // b sends with 3.1
				s = p.a.stats()
				gone := tt.slots == 0 || tt.message == pipe.Drop{KeyID: 3} || tt.message == pipe.Drop{KeyID: 3, Generation: 1}
				if (s.Drops.Unknown > unknown) != gone {
					t.Errorf("received: %+v", s)
				}
			})
		})
	}
}

func TestOnlyWhatIsNotInUseIsDisplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		deliver(t, p.b, p.a, packet(""))
		p.a.install(p.b, 2, false)
		p.a.install(p.b, 3, false)
		p.a.installIV(p.b, 3, 1, false)
		p.a.heard()
		for _, step := range []struct {
			id    keys.KeyID
			g     keys.Generation
			kept  bool
			slots uint8
		}{
			{1, 0, true, 4}, // in use
			{3, 1, false, 3},
			{2, 0, false, 2},
			{9, 0, false, 2}, // not there: it is gone
			{3, 0, false, 1},
		} {
			p.a.tell(pipe.Displace{KeyID: step.id, Generation: step.g})
			p.a.expect(pipe.Displaced{KeyID: step.id, Generation: step.g, Kept: step.kept})
			if s := p.a.stats(); s.ReceiveSlots != step.slots || s.SendKey != 1 {
				t.Errorf("%d.%d: %d slots, sends with %d", step.id, step.g, s.ReceiveSlots, s.SendKey)
			}
		}
	})
}

// A key goes as a whole: not at all if a packet has arrived in one of its generations.
func TestAKeyWithAGenerationInUseIsNotDisplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.reiv(1, 1)
		deliver(t, p.b, p.a, packet(""))
		p.rekey(2)
		p.a.heard()
		p.a.tell(pipe.Displace{KeyID: 1})
		p.a.expect(pipe.Displaced{KeyID: 1, Kept: true})
		if s := p.a.stats(); s.ReceiveSlots != 3 {
			t.Errorf("%d slots", s.ReceiveSlots)
		}
	})
}

func TestWipeIsAnsweredAndNewKeysWorkAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.a.heard()
		p.a.tell(pipe.Wipe{Seq: 8})
		p.a.expect(pipe.Wiped{Seq: 8})
		p.a.device.put(packet(""))
		if s := p.a.stats(); s.Drops.NoKey != 1 {
			t.Errorf("%+v", s.Drops)
		}
		p.rekey(2)
		deliver(t, p.a, p.b, packet(""))
	})
}
