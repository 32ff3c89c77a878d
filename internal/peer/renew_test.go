package peer_test

import (
	"sync/atomic"
	"testing"
	"time"

	"tund/internal/ctl"
	"tund/internal/session"
)

// Nothing that a copy of the machine has as well is used again: no key, no session.
func TestARenewedPeerHasNothingOfBefore(t *testing.T) {
	for side := range 2 {
		overRelays(t, func(t *testing.T, w *two) {
			w.start(0, 1)
			w.await(5*time.Second, ctl.StateUp, 0, 1)
			before, sessions := w.wires.keys(side), w.connections()
			var closes atomic.Int64
			w.cutAt(func(m session.Message) bool {
				if m.Type() == session.TypeClose {
					closes.Add(1)
				}
				return false
			})
			w.nodes[side].instance[0] += 100
			if err := w.peers[side].Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, _, open := w.end(side); n != 0 || !open {
				t.Errorf("%d slots are held, open %t", n, open)
			}
			w.await(30*time.Second, ctl.StateUp, 0, 1)
			time.Sleep(time.Second)
			w.mustWork()
			for _, k := range w.wires.keys(side) {
				for _, old := range before {
					if k == old {
						t.Errorf("key %d is in use again", k)
					}
				}
			}
			if closes.Load() != 0 || w.connections() == sessions {
				t.Errorf("%d CLOSEs, %d sessions after %d", closes.Load(), w.connections(), sessions)
			}
			if s := w.status(side); s.Restarts != 0 || len(w.status(1-side).Warnings) != 0 {
				t.Errorf("%+v, and the other side warns of %q", s, w.status(1-side).Warnings)
			}
		})
	}
}

func TestAPeerIsRenewedInAnyState(t *testing.T) {
	overRelays(t, func(t *testing.T, w *two) {
		w.start(0, 1)
		for range 100 { // on the way up, too
			if err := w.peers[0].Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(7 * time.Millisecond)
		}
		w.wires.end(0).die()
		time.Sleep(time.Millisecond)
		if err := w.peers[0].Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wires.end(0).revive()
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
		if _, err := w.peers[0].Down(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if err := w.peers[0].Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := w.status(0); s.State != ctl.StateDown {
			t.Errorf("a peer that was down is %s", s.State)
		}
	})
}
