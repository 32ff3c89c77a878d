package peer_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/handover"
	"tund/internal/keys"
	"tund/internal/peer"
	"tund/internal/pipe"
	"tund/internal/session"
	"tund/internal/supervisor"
)

// inherit makes the tunnel the one that was left.
func (t *fakeTunnel) inherit(o peer.Opening) {
	if o.Inherited != nil {
		t.remote, t.carrier, t.resume = o.Inherited.Remote, true, o.Resume
	}
}

// goOn fills the new child from what there is to resume.
func (t *fakeTunnel) goOn() supervisor.Started {
	state := t.resume
	t.resume = nil
	if state == nil || t.pair.obstinate != nil {
		return supervisor.Started{Refused: t.pair.obstinate}
	}
	for _, k := range state.Keys {
		for _, s := range k.Slots {
			id := pipe.Activate{KeyID: k.KeyID, Generation: s.Generation}
			t.slots[id] = &fakeSlot{send: s.SendIndex, receive: s.ReceiveIndex, heard: s.Heard}
		}
	}
	t.sending = pipe.Activate{KeyID: state.End.SendKey, Generation: state.End.SendGeneration}
	if s := t.slots[t.sending]; s != nil {
		s.active = true
	}
	t.newest = state.End.NewestKey
	return supervisor.Started{Resumed: true}
}

func (t *fakeTunnel) Carrier() bool  { return t.carrier }
func (t *fakeTunnel) Number() uint32 { return uint32(t.side) + 1 }

var errKilled = errors.New("hand over: child is gone")

func (t *fakeTunnel) HandOver(context.Context) (supervisor.State, error) {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	if t.number == 0 || t.mute {
		t.number, t.slots = 0, nil
		return supervisor.State{}, errKilled
	}
	state := supervisor.State{End: pipe.HandedOver{SendKey: t.sending.KeyID, SendGeneration: t.sending.Generation, NewestKey: t.newest}}
	byKey := map[keys.KeyID]*pipe.KeyState{}
	for id, s := range t.slots {
		k := byKey[id.KeyID]
		if k == nil {
			k = &pipe.KeyState{KeyID: id.KeyID}
			byKey[id.KeyID] = k
			state.Keys = append(state.Keys, k)
		}
		k.Slots = append(k.Slots, pipe.SlotState{Generation: id.Generation, SendIndex: s.send, ReceiveIndex: s.receive, Heard: s.heard})
	}
	slices.SortFunc(state.Keys, func(a, b *pipe.KeyState) int { return cmp.Compare(a.KeyID, b.KeyID) })
	t.number, t.slots, t.sending = 0, nil, pipe.Activate{}
	return state, nil
}

func (t *fakeTunnel) Resume(state *supervisor.State) {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	t.resume, t.inForce = state, t.configured
	t.begin()
}

// leave makes a side hand over and end, and returns what it has left.
func (w *two) leave(side int) handover.Peer {
	w.t.Helper()
	left, ok, err := w.peers[side].HandOver(w.t.Context())
	if !ok || err != nil {
		w.t.Fatalf("peer %d has nothing to hand over", side)
	}
	w.end1(side)
	return left
}

func (w *two) end1(side int) {
	w.stop[side](errors.New("tund is restarting"))
	<-w.ended[side]
	w.stop[side] = nil
}

// succeed starts the next tund's peer on a side, with what was left; nil: descriptors alone.
func (w *two) succeed(side int, left *handover.Peer) {
	cfg := w.peers[side].Config()
	before := w.nodes[side]
	w.nodes[side] = newFakeNode(before.instance[0] + 2)
	w.nodes[side].identity = before.identity
	remote := w.wires.end(side).Remote()
	start := w.clock[side]
	w.peers[side] = peer.New(peer.Options{
		Log: slog.New(slog.DiscardHandler), Config: cfg, Node: w.nodes[side], Open: w.wires.opener(side),
		Dial: func(ctx context.Context, _ *keys.Identity, _ netip.AddrPort, _ keys.PublicKey, progress func(session.State)) (*session.Conn, error) {
			progress(session.Connecting)
			return w.connect(ctx, side)
		},
		Now:       func() time.Duration { return time.Since(start) },
		Inherited: &handover.Inherited{Tunnel: handover.Tunnel{Number: uint32(side) + 1}, Remote: remote, Peer: left},
	})
	w.start(side)
}

// receives lists what a side's child holds, as the other side's indexes see it.
func (w *two) receives(side int) map[pipe.Activate]fakeSlot {
	synctest.Wait()
	w.wires.mu.Lock()
	defer w.wires.mu.Unlock()
	all := map[pipe.Activate]fakeSlot{}
	for id, s := range w.wires.ends[side].slots {
		all[id] = *s
	}
	return all
}

func (w *two) takeover(side int) ctl.Takeover {
	w.t.Helper()
	took := w.status(side).Takeover
	if took == nil {
		w.t.Fatalf("peer %d: taken over nothing", side)
	}
	return *took
}

func TestEpochsStayOverARestartAndAreReplacedByTheNextSession(t *testing.T) {
	for side, name := range []string{"the dialler", "the listener"} {
		t.Run(name+" restarts", func(t *testing.T) {
			inTwo(t, nil, func(t *testing.T, w *two) {
				w.await(time.Second, ctl.StateUp, 0, 1)
				for range 2 {
					w.peers[0].RotateKey(t.Context())
				}
				w.peers[1].RotateIV(t.Context())
				time.Sleep(time.Minute)
				before := [2]map[pipe.Activate]fakeSlot{w.receives(0), w.receives(1)}
				w.setOff(true)
				left := w.leave(side)
				time.Sleep(100 * time.Millisecond)
				if n, _, open := w.end(side); !open || n != 0 {
					t.Errorf("between two tunds the tunnel is open: %t, with %d slots", open, n)
				}
				w.succeed(side, &left)
				time.Sleep(5 * time.Second)
				w.mustWork()
				for s := range 2 {
					if now := w.receives(s); !maps.Equal(now, before[s]) {
						t.Errorf("side %d holds %v, held %v", s, now, before[s])
					}
					if st := w.status(s); st.Epoch != 3 || st.IVGeneration != 1 || st.State != ctl.StateDegraded {
						t.Errorf("side %d: %+v", s, st)
					}
				}
				if took := w.takeover(side); took.Result != ctl.TakeoverResumed || took.GapMS < 100 || took.GapMS > 200 {
					t.Errorf("taken over: %+v", took)
				}
				if _, carrier, _ := w.end(side); !carrier {
					t.Error("the carrier is off")
				}
				w.setOff(false)
				w.await(time.Minute, ctl.StateUp, 0, 1)
				w.mustWork()
				time.Sleep(time.Minute)
				w.mustWork()
				for s := range 2 {
					if n, _, _ := w.end(s); n != 1 || w.status(s).Epoch != 1 {
						t.Errorf("side %d: %d slots, epoch %d; want the new session's first alone", s, n, w.status(s).Epoch)
					}
				}
			})
		})
	}
}

func TestBothSidesMayRestartAtOnce(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		for range 5 {
			a, b := w.leave(0), w.leave(1)
			w.succeed(1, &b)
			w.succeed(0, &a)
			time.Sleep(10 * time.Millisecond)
			w.mustWork()
			w.await(time.Minute, ctl.StateUp, 0, 1)
			w.mustWork()
			for side := range 2 {
				if took := w.takeover(side); took.Result != ctl.TakeoverResumed {
					t.Errorf("side %d: %+v", side, took)
				}
			}
		}
	})
}

// A restart in the midst of an exchange, whoever began it: both sides go on.
func TestRestartInTheMidstOfAnExchangeKeepsWhatWorks(t *testing.T) {
	for round := range 24 {
		synctest.Test(t, func(t *testing.T) {
			w := newTwo(t, nil)
			w.latency = func() time.Duration { return 7 * time.Millisecond }
			w.start(0, 1)
			defer w.finish()
			w.await(5*time.Second, ctl.StateUp, 0, 1)
			go w.peers[round%2].RotateKey(context.Background())
			time.Sleep(time.Duration(round/2) * 3 * time.Millisecond)
			left := w.leave(0)
			w.succeed(0, &left)
			time.Sleep(time.Millisecond)
			w.mustWork()
			w.await(time.Minute, ctl.StateUp, 0, 1)
			w.mustWork()
			if took := w.takeover(0); took.Result != ctl.TakeoverResumed {
				t.Errorf("round %d: %+v", round, took)
			}
		})
	}
}

func TestTakeoverWithoutKeysBringsANewEpoch(t *testing.T) {
	other := randomIdentity().Public()
	for name, c := range map[string]struct {
		spoil func(w *two, left *handover.Peer) *handover.Peer
		want  string
	}{
		"crash":     {func(*two, *handover.Peer) *handover.Peer { return nil }, "the earlier tund did not hand over keys"},
		"lost":      {func(_ *two, l *handover.Peer) *handover.Peer { l.Lost = "killed"; return l }, "killed"},
		"other key": {func(_ *two, l *handover.Peer) *handover.Peer { l.PublicKey = other; return l }, "the peer has another public key now"},
		"a slot that the parent did not know": {func(_ *two, l *handover.Peer) *handover.Peer {
			l.Slots = nil
			return l
		}, "the slots that were handed over do not fit together"},
		"an index that is taken": {func(_ *two, l *handover.Peer) *handover.Peer {
			l.Slots = append(l.Slots, l.Slots[0])
			return l
		}, "the slots that were handed over do not fit together\nkeys: index is taken"},
	} {
		t.Run(name, func(t *testing.T) {
			inTwo(t, nil, func(t *testing.T, w *two) {
				w.await(time.Second, ctl.StateUp, 0, 1)
				left := w.leave(0)
				w.succeed(0, c.spoil(w, &left))
				w.await(time.Minute, ctl.StateUp, 0, 1)
				w.mustWork()
				if took := w.takeover(0); took.Result != ctl.TakeoverFresh || took.Reason != c.want {
					t.Errorf("taken over: %+v, want %q", took, c.want)
				}
				if _, carrier, _ := w.end(0); !carrier {
					t.Error("the carrier is off")
				}
			})
		})
	}
}

func TestChildThatRefusesToResumeBringsANewEpoch(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		left := w.leave(0)
		w.wires.obstinate = errors.New("the window does not fit")
		w.succeed(0, &left)
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
		if took := w.takeover(0); took.Result != ctl.TakeoverFresh || took.Reason != "the window does not fit" {
			t.Errorf("taken over: %+v", took)
		}
	})
}

func TestTunnelThatCannotBeTakenOverIsMadeAnew(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		left := w.leave(0)
		w.wires.spoilt = errors.New("adopt tun tun-other: the device has a queue of another length")
		w.succeed(0, &left)
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
		if took := w.takeover(0); took.Result != ctl.TakeoverFresh || took.Reason != w.wires.spoilt.Error() {
			t.Errorf("taken over: %+v", took)
		}
	})
}

// The device keeps its carrier over a crash, for as long as a peer that is there needs to
// come back, and no longer.
func TestInheritedCarrierGoesWhenNoKeyComes(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.leave(0)
		w.setOff(true)
		w.succeed(0, nil)
		time.Sleep(4 * time.Second)
		if _, carrier, _ := w.end(0); !carrier {
			t.Error("the carrier is off at once")
		}
		time.Sleep(2 * time.Second)
		if _, carrier, _ := w.end(0); carrier {
			t.Error("the carrier is on, and nobody is there")
		}
		w.setOff(false)
		w.await(time.Minute, ctl.StateUp, 0, 1)
	})
}

func TestPeerGoesOnWhenItIsTakenBack(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		before := w.receives(0)
		for range 3 {
			w.setOff(true)
			left, ok, err := w.peers[0].HandOver(t.Context())
			if !ok || err != nil || left.Lost != "" {
				t.Fatalf("left %v, %t: %s", left, ok, left.Lost)
			}
			time.Sleep(50 * time.Millisecond)
			w.peers[0].TakeBack(t.Context(), left)
			time.Sleep(time.Millisecond)
			w.mustWork()
			if now := w.receives(0); !maps.Equal(now, before) {
				t.Errorf("holds %v, held %v", now, before)
			}
			w.setOff(false)
			w.await(time.Minute, ctl.StateUp, 0, 1)
			w.mustWork()
			time.Sleep(time.Minute)
			before = w.receives(0)
		}
		if took := w.takeover(0); took.Result != ctl.TakeoverResumed {
			t.Errorf("taken over: %+v", took)
		}
	})
}

func TestPeerWhoseKeysAreLostOnTheWayGoesOnWithNewOnes(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		if _, ok, err := w.peers[0].HandOver(t.Context()); !ok || err != nil {
			t.Fatal("nothing to hand over")
		}
		w.peers[0].TakeBack(t.Context(), handover.Peer{Lost: "the record is lost"})
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
		if took := w.takeover(0); took.Result != ctl.TakeoverFresh {
			t.Errorf("taken over: %+v", took)
		}
	})
}

func TestHandedOverPeerTellsNobody(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.leave(0)
		if _, _, open := w.end(0); !open {
			t.Error("the tunnel is closed")
		}
		time.Sleep(30 * time.Second)
		if s := w.status(1); s.Epoch != 1 || s.State != ctl.StateDegraded {
			t.Errorf("the other side: %+v", s)
		}
	})
}

func TestKeysThatTheOtherSideHasClosedAreNotHandedOver(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		go func() { _, _ = w.peers[1].Down(context.Background(), false) }()
		time.Sleep(500 * time.Millisecond)
		if left := w.leave(0); left.Lost != "the other side has closed the tunnel" {
			t.Errorf("left %+v: %q", left, left.Lost)
		}
	})
}

func TestPeerThatWasOrderedDownIsClosedWhenNoOtherTundCame(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		go func() { _, _ = w.peers[1].Down(context.Background(), true) }()
		time.Sleep(500 * time.Millisecond) // it drains
		left, ok, err := w.peers[0].HandOver(t.Context())
		if !ok || err != nil {
			t.Fatalf("left %v, %t, %v", left, ok, err)
		}
		w.peers[0].TakeBack(t.Context(), left)
		time.Sleep(2 * time.Second)
		if _, _, open := w.end(0); open || w.status(0).State != ctl.StateDown {
			t.Errorf("open: %t, state %s", open, w.status(0).State)
		}
	})
}

func TestPeerWithoutATunnelHandsNothingOver(t *testing.T) {
	off := func(side int, c *config.Peer) { c.Enabled = side == 1 }
	inTwo(t, off, func(t *testing.T, w *two) {
		time.Sleep(time.Second)
		if _, ok, err := w.peers[0].HandOver(t.Context()); ok || err != nil {
			t.Error("handed over")
		}
		w.peers[0].TakeBack(t.Context(), handover.Peer{})
		if s := w.status(0); s.State != ctl.StateDisabled || s.Takeover != nil {
			t.Errorf("%+v", s)
		}
	})
}

// What falls due before the new child has begun must reach it: the parent would count on
// room that the child has not.
func TestRetirementThatFallsDueDuringATakeoverReachesTheChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		var slow atomic.Bool
		w.wires.delay = func(int) time.Duration {
			if slow.Load() {
				return 200 * time.Millisecond
			}
			return 0
		}
		w.start(0, 1)
		defer w.finish()
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.peers[0].RotateKey(t.Context())
		w.setOff(true)
		time.Sleep(9900 * time.Millisecond)
		left := w.leave(0)
		slow.Store(true)
		w.succeed(0, &left)
		time.Sleep(time.Second)
		if n, _, _ := w.end(0); n != 1 {
			t.Errorf("the child holds %d slots, want 1", n)
		}
	})
}
