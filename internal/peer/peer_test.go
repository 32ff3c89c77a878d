package peer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
	"tund/internal/parts"
	"tund/internal/peer"
)

// inTwo runs f with two connected peers in virtual time.
func inTwo(t *testing.T, adjust func(side int, c *config.Peer), f func(t *testing.T, w *two)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, adjust)
		w.start(0, 1)
		defer w.finish()
		f(t, w)
	})
}

// status is what a peer says once nothing is under way any more at this moment.
func (w *two) status(side int) ctl.PeerStatus {
	w.t.Helper()
	synctest.Wait()
	s, err := w.peers[side].Status(w.t.Context())
	if err != nil {
		w.t.Fatalf("status of peer %d: %v", side, err)
	}
	return s
}

// await waits in virtual time until both sides are in the state.
func (w *two) await(limit time.Duration, want ctl.State, sides ...int) {
	w.t.Helper()
	for _, side := range sides {
		deadline := time.Now().Add(limit)
		for w.status(side).State != want {
			if time.Now().After(deadline) {
				s := w.status(side)
				w.t.Fatalf("peer %d is %s (%s), not %s after %v", side, s.State, s.LastError, want, limit)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// mustWork fails the test unless each side holds the key the other one sends with.
func (w *two) mustWork() {
	w.t.Helper()
	synctest.Wait()
	w.wires.mu.Lock()
	defer w.wires.mu.Unlock()
	for side, end := range w.wires.ends {
		if end == nil || !end.works() {
			w.t.Errorf("what side %d sends is not understood", side)
		}
	}
}

func TestTwoPeersComeUpAtEpochOne(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.mustWork()
		for side := range 2 {
			s := w.status(side)
			_, carrier, _ := w.end(side)
			if s.Epoch != 1 || s.AEAD != "aes-256-gcm" || s.LastError != "" || s.ChildPID == 0 || !carrier {
				t.Errorf("peer %d: %+v", side, s)
			}
		}
	})
}

func TestPeersThatDialEachOtherKeepOneSession(t *testing.T) {
	both := func(_ int, c *config.Peer) { c.Endpoints = []config.Endpoint{{Host: "192.0.2.2", Port: 7900}} }
	inTwo(t, both, func(t *testing.T, w *two) {
		w.await(5*time.Second, ctl.StateUp, 0, 1)
		time.Sleep(time.Minute)
		w.await(0, ctl.StateUp, 0, 1)
		w.mustWork()
		if n := w.connections(); n > 2 {
			t.Errorf("%d connections were made, more than one by each side", n)
		}
	})
}

func TestRotateKeyChangesTheEpochOfBothSides(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		for i := range 4 {
			r := w.peers[i%2].RotateKey(t.Context())
			if r.Result != ctl.ResultDone || r.From != uint32(i+1) || r.To != r.From+1 || r.Lost == nil {
				t.Fatalf("rotation %d: %+v", i, r)
			}
			w.mustWork()
		}
		if a, b := w.status(0).Epoch, w.status(1).Epoch; a != 5 || b != 5 {
			t.Errorf("epochs %d and %d", a, b)
		}
	})
}

func TestRotateIVChangesTheGenerationOfBothSides(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		for i := range 4 {
			r := w.peers[i%2].RotateIV(t.Context())
			if r.Result != ctl.ResultDone || r.To != uint32(i+1) {
				t.Fatalf("rotation %d: %+v", i, r)
			}
		}
		if a, b := w.status(0), w.status(1); a.IVGeneration != 4 || b.IVGeneration != 4 || a.Epoch != 1 || b.Epoch != 1 {
			t.Errorf("%+v and %+v", a, b)
		}
		w.mustWork()
	})
}

func TestBothSidesMayRotateAtOnce(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		results := make(chan ctl.PeerResult, 2)
		for side := range 2 {
			go func() { results <- w.peers[side].RotateKey(context.Background()) }()
		}
		for range 2 {
			if r := <-results; r.Result != ctl.ResultDone || r.To <= 1 {
				t.Errorf("%+v", r)
			}
		}
		w.mustWork()
	})
}

func TestManyRotationsWaitForARetiredKey(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		for i := range 20 {
			if r := w.peers[i%2].RotateKey(t.Context()); r.Result != ctl.ResultDone {
				t.Fatalf("rotation %d: %+v", i, r)
			}
			if n, _, _ := w.end(i % 2); n > 8 {
				t.Fatalf("%d slots are held", n)
			}
		}
		w.mustWork()
	})
}

func TestAnEpochLastsItsInterval(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		time.Sleep(21 * time.Minute)
		if e := w.status(0).Epoch; e != 11 || w.status(1).Epoch != e {
			t.Errorf("epochs %d and %d after 21 min at an interval of 2", e, w.status(1).Epoch)
		}
		w.mustWork()
		if n, _, _ := w.end(0); n != 1 {
			t.Errorf("%d slots held, older ones were not retired", n)
		}
	})
}

func TestAChildThatCrashesGetsANewEpoch(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		for side := range 2 {
			before := w.status(side).Epoch
			w.wires.end(side).crash()
			time.Sleep(50 * time.Millisecond)
			w.await(time.Second, ctl.StateUp, 0, 1)
			if s := w.status(side); s.Epoch != before+1 || s.Restarts != 1 {
				t.Errorf("side %d: %+v", side, s)
			}
			w.mustWork()
		}
	})
}

func TestDataGoesOnWithoutASession(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.setOff(true)
		w.cutSessions()
		w.await(time.Second, ctl.StateDegraded, 0, 1)
		time.Sleep(5 * time.Minute)
		w.mustWork()
		if s := w.status(0); s.State != ctl.StateDegraded || !strings.Contains(s.LastError, "refused") {
			t.Errorf("%s: %s", s.State, s.LastError)
		}
		w.setOff(false)
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}

func TestASessionIsRenewedAfterADay(t *testing.T) {
	slow := func(_ int, c *config.Peer) { c.RekeyInterval = 5 * time.Hour; c.KeyLifetime = 24 * time.Hour }
	inTwo(t, slow, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		first := w.connections()
		time.Sleep(24*time.Hour + time.Minute)
		w.await(0, ctl.StateUp, 0, 1)
		if n := w.connections(); n != 2*first {
			t.Errorf("%d connections after a day", n)
		}
		w.mustWork()
	})
}

func TestDownTellsTheOtherSideAndUpComesBack(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		for _, n := range w.nodes {
			if len(n.located["other "]) != 1 {
				t.Errorf("located: %v", n.located)
			}
		}
		r, err := w.peers[0].Down(t.Context(), false)
		if err != nil || !r.Told || !r.Acknowledged || r.StaysDown || r.State != ctl.StateDown {
			t.Fatalf("%+v, %v", r, err)
		}
		if _, _, open := w.end(0); open {
			t.Error("the tunnel is still held")
		}
		time.Sleep(2 * time.Second)
		n, carrier, _ := w.end(1)
		if n != 0 {
			t.Errorf("the other side still holds %d keys", n)
		}
		if carrier {
			t.Error("the other side still shows a carrier")
		}
		if err := w.peers[0].Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}

// The side that is not dialled can only wait for the other one, which was told to stay away:
// for less time than who says up by hand is ready to wait.
func TestUpOfTheSideThatIsDialledDoesNotTakeLong(t *testing.T) {
	for round := range 20 {
		inTwo(t, nil, func(t *testing.T, w *two) {
			w.await(time.Second, ctl.StateUp, 0, 1)
			if _, err := w.peers[1].Down(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute + time.Duration(round)*time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
			defer cancel()
			if err := w.peers[1].Up(ctx); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		})
	}
}

func TestUpSaysThatThePeerHasToDial(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		if _, err := w.peers[1].Down(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		w.setOff(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.peers[1].Up(ctx); err == nil || !strings.Contains(err.Error(), "no endpoint") {
			t.Errorf("%v", err)
		}
	})
}

func TestNewSessionsAreToldWhoseOrderKeepsTheTunnelDown(t *testing.T) {
	orders := map[string]func(ctx context.Context, w *two) error{
		"session closed by peer: disabled: administratively down": func(ctx context.Context, w *two) error {
			_, err := w.peers[1].Down(ctx, false)
			return err
		},
		"session closed by peer: stay-down: down by your order": func(ctx context.Context, w *two) error {
			if _, err := w.peers[0].Shutdown(ctx); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			_ = w.peers[0].Up(ctx) // in vain
			return nil
		},
	}
	for want, order := range orders {
		inTwo(t, nil, func(t *testing.T, w *two) {
			w.await(time.Second, ctl.StateUp, 0, 1)
			if err := order(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if s := w.status(0); !strings.Contains(s.LastError, want) {
				t.Errorf("the dialler has %q, not %q", s.LastError, want)
			}
		})
	}
}

func TestShutdownEndsTheOtherSideUntilItsUp(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		r, err := w.peers[0].Shutdown(t.Context())
		if err != nil || !r.StaysDown {
			t.Fatalf("%+v, %v", r, err)
		}
		time.Sleep(2 * time.Second)
		if _, _, open := w.end(1); open {
			t.Error("the other side still holds its tunnel")
		}
		if s := w.status(1); s.State != ctl.StateDown || !strings.Contains(s.LastError, "administrator") || w.nodes[1].Held("other") == "" {
			t.Errorf("%s: %s", s.State, s.LastError)
		}
		short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := w.peers[0].Up(short); err == nil {
			t.Error("up although the other side is down")
		}
		if err := w.peers[1].Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.await(time.Second, ctl.StateUp, 0, 1)
	})
}

func TestAPeerThatRefusesToStayDownComesBack(t *testing.T) {
	inTwo(t, func(side int, c *config.Peer) { c.AcceptStayDown = side == 0 }, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		if _, err := w.peers[0].Down(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if _, _, open := w.end(1); !open || w.nodes[1].Held("other") != "" {
			t.Error("the other side is held down although accept_stay_down is false")
		}
	})
}

func TestShutdownWithoutASessionChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.off = true
		w.start(0)
		defer w.finish()
		_, err := w.peers[0].Shutdown(t.Context())
		var known *ctl.Error
		if !errors.As(err, &known) || known.Code != ctl.CodeState {
			t.Errorf("%v", err)
		}
		if _, _, open := w.end(0); !open || w.nodes[0].Held("other") != "" {
			t.Error("the tunnel was closed")
		}
	})
}

func TestAnOrderToStayDownSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		_ = w.nodes[0].Hold("other", "down by order")
		w.peers[0] = w.newPeer(0, config.Peer{Name: "other", Enabled: true, PublicKey: w.nodes[1].identity.Public()})
		w.start(0)
		defer w.finish()
		if s := w.status(0); s.State != ctl.StateDown || s.ChildPID != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDifferentPresharedKeysGiveNoTunnel(t *testing.T) {
	psk := keys.Secret{1}
	only := func(side int, c *config.Peer) {
		if side == 0 {
			c.PresharedKey = &psk
		}
	}
	inTwo(t, only, func(t *testing.T, w *two) {
		time.Sleep(10 * time.Second)
		for side := range 2 {
			if s := w.status(side); s.State == ctl.StateUp || !strings.Contains(s.LastError, "pre-shared key") {
				t.Errorf("side %d is %s: %q", side, s.State, s.LastError)
			}
		}
	})
}

// New keys interrupt nothing: a peer that is up is up since it came up.
func TestRotationsLeaveSinceWhenAPeerIsUp(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		before := [2]time.Time{w.status(0).Since, w.status(1).Since}
		time.Sleep(time.Hour)
		if r := w.peers[0].RotateKey(t.Context()); r.Result != ctl.ResultDone {
			t.Fatalf("%+v", r)
		}
		for side := range 2 {
			if s := w.status(side); s.State != ctl.StateUp || !s.Since.Equal(before[side]) {
				t.Errorf("side %d is %s since %v, was up since %v", side, s.State, s.Since, before[side])
			}
		}
	})
}

// live makes a change of keys that need no new child.
func live(names ...string) config.Change {
	return config.Change{Name: "other", Action: config.ActionLive, Keys: names}
}

func (w *two) config(side int, adjust func(c *config.Peer)) config.Peer {
	c := w.peers[side].Config()
	adjust(&c)
	return c
}

func TestWhatADeviceLacksDegradesTheTunnelAndEndsNothing(t *testing.T) {
	lost := parts.List{{Part: "route 10.20.0.0/16", Err: errors.New("exists via 192.0.2.9 dev eth0")}}
	const why = "route 10.20.0.0/16: exists via 192.0.2.9 dev eth0"
	want := func(t *testing.T, w *two, state ctl.State, missing ...string) {
		t.Helper()
		w.await(2*time.Second, state, 0)
		if s := w.status(0); !slices.Equal(s.Missing, missing) || strings.Contains(s.LastError, why) != (len(missing) > 0) {
			t.Errorf("%s: missing %q, last error %q", s.State, s.Missing, s.LastError)
		}
		w.mustWork()
	}
	notice := func(t *testing.T, w *two) {
		t.Helper()
		if err := w.peers[0].Noticed(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.wires.lacks = lost // from the beginning
		w.start(0, 1)
		defer w.finish()
		want(t, w, ctl.StateDegraded, why)
		w.wires.end(0).lose(nil) // it comes
		notice(t, w)
		want(t, w, ctl.StateUp)
		w.wires.end(0).lose(lost) // somebody takes it
		notice(t, w)
		want(t, w, ctl.StateDegraded, why)
		if r := w.peers[0].RotateKey(t.Context()); r.Result != ctl.ResultDone {
			t.Errorf("rotation of a degraded tunnel: %+v", r)
		}
		w.wires.end(0).lose(nil)
		w.update(0, func(c *config.Peer) { c.Routes = nil }, "routes") // it is not wanted any more
		want(t, w, ctl.StateUp)
		w.wires.end(0).lose(lost)
		w.update(0, func(c *config.Peer) { c.MTU = 1300 }, "mtu") // a change is in force all the same
		want(t, w, ctl.StateDegraded, why)
		if got := w.peers[0].Config().MTU; got != 1300 {
			t.Errorf("mtu %d is in force", got)
		}
	})
}

// A tunnel that lacks something may also lose its data, and says so.
func TestADegradedTunnelThatLosesItsDataSaysSo(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.wires.end(0).lose(parts.List{{Part: "bridge br0", Err: errors.New("no such device")}})
		if err := w.peers[0].Noticed(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		w.await(0, ctl.StateDegraded, 0)
		w.wires.setCut(true)
		w.wires.end(0).crash()
		time.Sleep(10 * time.Second)
		if s := w.status(0); !strings.Contains(s.LastError, "bridge br0: no such device; no data arrives from") {
			t.Errorf("%s: %s", s.State, s.LastError)
		}
	})
}

func TestALiveChangeKeepsChildSessionAndEpoch(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		before := w.status(0)
		c := w.config(0, func(c *config.Peer) { c.MTU = 1300; c.Keepalive = time.Second })
		if err := w.peers[0].Update(t.Context(), c, live("mtu", "keepalive")); err != nil {
			t.Fatal(err)
		}
		after := w.status(0)
		if after.ChildPID != before.ChildPID || after.Epoch != before.Epoch || after.MTU != 1300 || w.connections() != 1 {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
	})
}

func TestADataChannelThatDoesNotPassIsDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.wires.cut = true
		w.start(0, 1)
		defer w.finish()
		time.Sleep(10 * time.Second)
		for side := range 2 {
			if s := w.status(side); s.State != ctl.StateDegraded || s.LastError == "" {
				t.Errorf("side %d is %s: %q", side, s.State, s.LastError)
			}
		}
		if r := w.peers[0].RotateKey(t.Context()); r.Result != ctl.ResultFailed {
			t.Errorf("%+v", r)
		}
	})
}

func TestADisabledPeerHoldsNothing(t *testing.T) {
	inTwo(t, func(side int, c *config.Peer) { c.Enabled = side == 0 }, func(t *testing.T, w *two) {
		time.Sleep(time.Second)
		if s := w.status(1); s.State != ctl.StateDisabled || s.ChildPID != 0 {
			t.Errorf("%+v", s)
		}
		if s := w.status(0); !strings.Contains(s.LastError, "disabled") {
			t.Errorf("the other side is not told: %+v", s)
		}
		if s := w.status(0); s.Endpoint != "" {
			t.Errorf("datagrams go to %s, who has said no port", s.Endpoint)
		}
		if err := w.peers[1].Up(t.Context()); err == nil {
			t.Error("a disabled peer came up")
		}
		c := w.config(1, func(c *config.Peer) { c.Enabled = true })
		if err := w.peers[1].Update(t.Context(), c, live("enabled")); err != nil {
			t.Fatal(err)
		}
		if err := w.peers[0].Up(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAPeerThatStopsTellsTheOtherSideWhy(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.stop[0](errors.New("the moon is full"))
		<-w.ended[0]
		w.stop[0] = nil
		time.Sleep(2 * time.Second)
		if s := w.status(1); !strings.Contains(s.LastError, "the moon is full") && !strings.Contains(s.LastError, "refused") {
			t.Errorf("%+v", s)
		}
		if n, _, _ := w.end(1); n != 0 {
			t.Error("keys outlive the goodbye")
		}
	})
}

func TestCommandsToAnEndedPeerFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.start(0)
		w.finish()
		if err := w.peers[0].Up(t.Context()); !errors.Is(err, peer.ErrStopped) {
			t.Errorf("%v", err)
		}
	})
}
