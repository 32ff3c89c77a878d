package datapath

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/tuntap"
	"tund/internal/wire"
)

func TestInnerSourcesAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		allowed := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/64")}
		p := newPair(t, pipe.ModeTUN, pipe.Configure{AllowedIPs: allowed})
		p.rekey(1)
		deliver(t, p.a, p.b, packet("10.0.0.255"), packet("2001:db8::ffff"))
		for _, source := range []string{"10.0.1.0", "9.255.255.255", "2001:db8:0:1::", "::"} {
			p.a.device.put(packet(source))
		}
		if s := p.b.stats(); s.Drops.Source != 4 || s.RxPackets != 2 {
			t.Errorf("%+v", s)
		}
		p.b.configure(pipe.Configure{})
		deliver(t, p.a, p.b, packet("192.0.2.1"))
	})
}

func TestFramesCrossWhateverTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTAP, pipe.Configure{AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.9.9/32")}})
		p.rekey(1)
		vlan := append(bytes.Repeat([]byte{0xff}, 12), 0x81, 0x00, 0x00, 0x2a, 0x08, 0x06)
		jumbo := make([]byte, 9018)
		for i := range jumbo {
			jumbo[i] = byte(rand.Uint32())
		}
		deliver(t, p.a, p.b, make([]byte, 14), append(vlan, 1, 2, 3), jumbo, make([]byte, maxPayload))
		p.a.device.put(make([]byte, 13))
		if s := p.a.stats(); s.Drops.Malformed != 1 {
			t.Errorf("%+v", s.Drops)
		}
	})
}

func TestWhatIsNoPacketIsDroppedOnBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		bad := [][]byte{make([]byte, 40), packet("")[:19], packet("::1")[:39], {0x45}}
		for _, packet := range bad {
			p.a.device.put(packet)
		}
		if s := p.a.stats(); s.Drops.Malformed != uint64(len(bad)) {
			t.Errorf("outbound: %+v", s.Drops)
		}
		// A peer in another mode seals anything.
		s := p.a.path.control.keyring.sending
		for i, packet := range append(bad, nil) {
			n := wire.PacketNumber(1000 + i)
			header := wire.Header{Type: wire.TypeData, Index: s.sendIndex, Number: n}.Append(nil)
			nonce := keys.Nonce(s.epoch.send.key.IV, s.generation, n)
			p.b.socket.put(s.epoch.send.cipher.Seal(header, nonce[:], packet, header))
		}
		p.b.socket.put([]byte("stranger"))
		if s := p.b.stats(); s.Drops.Malformed != uint64(len(bad)+2) || s.RxPackets != 0 {
			t.Errorf("inbound: %+v", s)
		}
	})
}

func TestABatchIsBoundedAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		var packets [][]byte
		for i := range 300 {
			packets = append(packets, packet("", make([]byte, i*i%5000)...))
		}
		deliver(t, p.a, p.b, packets...)
	})
}

func TestRefusedWritesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		for i, err := range []error{tuntap.ErrDown, tuntap.ErrRefused, errors.New("strange")} {
			p.b.device.fail(nil, err)
			p.a.device.put(packet(""))
			if s := p.b.stats(); s.Drops.Device != uint64(i+1) || s.RxPackets != 0 {
				t.Errorf("%v: %+v", err, s)
			}
		}
		p.b.device.fail(nil, nil)
		deliver(t, p.a, p.b, packet(""))
	})
}

func TestRefusedSendsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		p.a.socket.mu.Lock()
		p.a.socket.refuse = true
		p.a.socket.mu.Unlock()
		p.a.device.put(packet(""))
		if s := p.a.stats(); s.Drops.Queue != 1 || s.TxPackets != 0 || s.TxBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestALostDeviceOrSocketIsFatal(t *testing.T) {
	tests := []struct {
		name   string
		lose   func(p pair)
		reason string
	}{
		{"device gone while reading", func(p pair) { p.a.device.fail(tuntap.ErrGone, nil) }, "device gone"},
		{"device gone while writing", func(p pair) {
			p.a.device.fail(nil, tuntap.ErrGone)
			p.b.device.put(packet(""))
		}, "device gone"},
		{"device broken", func(p pair) { p.a.device.fail(errors.New("strange"), nil) }, "device: read: strange"},
		{"socket broken", func(p pair) {
			p.a.socket.mu.Lock()
			p.a.socket.lost = errors.New("strange")
			p.a.socket.mu.Unlock()
			p.a.socket.wake()
		}, "socket: strange"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, pipe.ModeTUN, pipe.Configure{})
				p.rekey(1)
				p.a.heard()
				tt.lose(p)
				if err := p.a.end(); err == nil || err.Error() != tt.reason {
					t.Errorf("ended with %v", err)
				}
				p.a.expect(pipe.Fatal{Reason: tt.reason})
			})
		})
	}
}

func TestEveryOrderlyEndWipesTheKeys(t *testing.T) {
	tests := map[string]func(n *node){
		"stop":        func(n *node) { n.tell(pipe.Stop{}) },
		"pipe closed": func(n *node) { _ = n.w.Close() },
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, pipe.ModeTUN, pipe.Configure{Keepalive: time.Second})
				p.rekey(1)
				end(p.a)
				if err := p.a.end(); err != nil {
					t.Error(err)
				}
				table := p.a.path.control.table.Load()
				if table.send != nil || len(table.receive) != 0 || len(p.a.path.control.keyring.slots) != 0 {
					t.Error("a key is left")
				}
				sent := 0
				p.a.socket.link(func([]byte) { sent++ })
				p.a.device.put(packet(""))
				time.Sleep(time.Minute)
				if synctest.Wait(); sent != 0 {
					t.Errorf("%d datagrams after the end", sent)
				}
			})
		})
	}
}

func TestTheEndOfTheContextEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := newFakeStop()
		_, child := newPipes(t)
		path, err := New(Options{
			Log: slog.New(slog.DiscardHandler), Mode: pipe.ModeTUN, Device: &fakeDevice{queue: newQueue(stop)},
			Socket: &fakeSocket{queue: newQueue(stop)}, Pipe: child, Stop: stop, Now: func() time.Duration { return 0 },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := path.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestProtocolErrorsAreFatal(t *testing.T) {
	key := &pipe.InstallKey{KeyID: 1, AEAD: keys.AES256GCM, SendIndex: 1, ReceiveIndex: 1}
	tests := []struct {
		name   string
		tell   []pipe.Message
		reason string
	}{
		{"key before configuration", []pipe.Message{key}, "before the configuration"},
		{"other mode", []pipe.Message{pipe.Configure{Mode: pipe.ModeTAP, KeyLifetime: 1}}, "configured as tap"},
		{"no lifetime", []pipe.Message{pipe.Configure{Mode: pipe.ModeTUN}}, "lifetime"},
		{"second hello", []pipe.Message{pipe.Hello{Version: pipe.Version}}, "not permitted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, pipe.ModeTUN, Limits{})
				n.heard()
				for _, m := range tt.tell {
					_ = n.Send(m) // the child may hang up before it has read all of it
				}
				if err := n.end(); err == nil || !strings.Contains(err.Error(), tt.reason) {
					t.Errorf("ended with %v", err)
				}
				synctest.Wait()
				said := n.heard()
				if len(said) == 0 || !strings.Contains(said[len(said)-1].(pipe.Fatal).Reason, tt.reason) {
					t.Errorf("said %+v", said)
				}
			})
		})
	}
}

func TestAnotherVersionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, pipe.ModeTUN, Limits{})
		n.tell(pipe.Hello{Version: pipe.Version + 1})
		if err := n.end(); err == nil {
			t.Error("accepted")
		}
		synctest.Wait()
		said := n.heard()
		if len(said) != 2 || said[0].(pipe.Hello).Version != pipe.Version || said[1].Type() != pipe.TypeFatal {
			t.Errorf("said %+v", said)
		}
	})
}

func TestStatsAreAnsweredBeforeTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if s := newNode(t, pipe.ModeTUN, Limits{}).stats(); s.Seq != 4242 || s.LastReceived >= 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAHangingLoopIsNotAnsweredFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		let := make(chan struct{})
		p.a.socket.link(func([]byte) { <-let })
		p.a.device.put(packet(""))
		p.a.stats()
		p.a.heard()
		time.Sleep(patience - time.Second)
		p.a.stats()
		time.Sleep(time.Second)
		p.a.tell(pipe.GetStats{Seq: 1})
		p.a.expect()
		if !strings.Contains(p.a.log.String(), "packet loop hangs") {
			t.Errorf("log: %s", p.a.log)
		}
		close(let)
		p.a.stats()
	})
}

func TestNewWantsAllOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
	stop := newFakeStop()
	o := Options{
		Log: slog.New(slog.DiscardHandler), Device: &fakeDevice{}, Socket: &fakeSocket{},
		Pipe: childPipe{}, Stop: stop, Now: func() time.Duration { return 0 },
	}
	if _, err := New(o); err == nil {
		t.Error("made without a mode")
	}
}

// nonces records every (key, nonce) pair that a node's datagrams were sealed with.
type nonces struct {
	t     *testing.T
	owner *node
	peer  *node
	seen  map[string][]byte
}

// record works out the key from the index, which tells key id and generation here.
func (r *nonces) record(d []byte) {
	h, err := wire.ParseHeader(d)
	if err != nil {
		r.t.Errorf("sent %x: %v", d, err)
		return
	}
	rest := h.Index - r.peer.base - 1
	id, g := keys.KeyID(rest>>8), keys.Generation(rest&0xff)
	key := dataKey(byte(r.owner.base>>16), id)
	nonce := keys.Nonce(key.IV, g, h.Number)
	name := string(key.Key[:]) + string(nonce[:])
	if r.seen[name] != nil {
		r.t.Errorf("key %d generation %d number %d was used twice", id, g, h.Number)
	}
	r.seen[name] = d
}

func TestNoNonceIsUsedTwiceWhateverHappens(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) { randomLife(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

// randomLife sends over links that lose and reorder, while keys and IVs change, some
// exchanges are aborted and old keys are retired.
func randomLife(t *testing.T, r *rand.Rand) {
	p := newPair(t, pipe.ModeTUN, pipe.Configure{Keepalive: time.Second})
	var total atomic.Int64
	for _, n := range []*node{p.a, p.b} {
		peer := p.a
		if n == p.a {
			peer = p.b
		}
		record := nonces{t: t, owner: n, peer: peer, seen: map[string][]byte{}}
		lossy := rand.New(rand.NewPCG(r.Uint64(), 1))
		n.socket.link(func(d []byte) {
			record.record(d)
			total.Add(1)
			switch lossy.IntN(10) {
			case 0:
			case 1, 2:
				time.AfterFunc(time.Duration(lossy.IntN(300))*time.Millisecond, func() { peer.socket.put(d) })
			default:
				peer.socket.put(d)
			}
		})
	}
	id, g := keys.KeyID(1), keys.Generation(0)
	p.rekey(id)
	for range 400 {
		switch r.IntN(20) {
		case 0:
			id, g = id+1, 0
			p.rekey(id)
		case 1, 2:
			g++
			p.reiv(id, g)
		case 3: // an exchange that B answered and A never saw
			id++
			p.b.install(p.a, id, false)
			p.b.tell(pipe.Drop{KeyID: id})
			id++
			g = 0
			p.rekey(id)
		case 4:
			p.a.tell(pipe.Retire{KeyID: id})
			p.b.tell(pipe.Retire{KeyID: id})
		case 5:
			time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
		}
		for range r.IntN(100) {
			from := []*node{p.a, p.b}[r.IntN(2)]
			from.device.put(packet("", make([]byte, r.IntN(100))...))
		}
		if r.IntN(3) == 0 {
			synctest.Wait()
		}
		if p.a.stats().ReceiveSlots > 6 {
			p.a.tell(pipe.Retire{KeyID: id, Generation: g})
			p.b.tell(pipe.Retire{KeyID: id, Generation: g})
		}
	}
	time.Sleep(time.Second)
	a, b := p.a.stats(), p.b.stats()
	if total.Load() < 5000 || a.SendKey != id || b.SendKey != id || a.SendGeneration != g || b.SendGeneration != g {
		t.Errorf("%d sent, expected to end at %d.%d: %+v, %+v", total.Load(), id, g, a, b)
	}
	if a.Drops.Auth+b.Drops.Auth+a.Drops.Replay+b.Drops.Replay > 0 {
		t.Errorf("a %+v, b %+v", a.Drops, b.Drops)
	}
	if got := p.b.device.got(); len(got) == 0 || !slices.Equal(got[0][:1], []byte{0x45}) {
		t.Errorf("%d packets", len(got))
	}
}
