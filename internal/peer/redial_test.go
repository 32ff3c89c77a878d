package peer_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
)

func TestASessionThatWasGoodIsRedialledSoon(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		for i := range 12 {
			w.await(time.Second, ctl.StateUp, 0, 1)
			time.Sleep(time.Minute)
			w.setOff(true) // or it may be back before it is looked at
			w.cutSessions()
			synctest.Wait() // a dial may come within a millisecond
			if s := w.status(0); s.State != ctl.StateDegraded {
				t.Fatalf("%s after cut %d", s.State, i)
			}
			w.setOff(false)
		}
	})
}

func TestAPeerThatWasAwayForASecondIsBackSoonAfter(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		for i := range 20 {
			w.await(time.Second, ctl.StateUp, 0, 1)
			time.Sleep(time.Minute)
			w.setOff(true)
			w.cutSessions()
			time.Sleep(1500 * time.Millisecond)
			w.setOff(false)
			time.Sleep(300 * time.Millisecond)
			if s := w.status(0); s.State != ctl.StateUp {
				t.Fatalf("%s after absence %d: %s", s.State, i, s.LastError)
			}
		}
	})
}

func TestARenewalThatFailsIsTriedAgain(t *testing.T) {
	slow := func(_ int, c *config.Peer) { c.RekeyInterval = 5 * time.Hour; c.KeyLifetime = 24 * time.Hour }
	for name, harm := range map[string]func(w *two) (undo func()){
		"no child": func(w *two) func() {
			end := w.wires.end(0)
			end.die()
			return end.revive
		},
		"no answer to HELLO": func(w *two) func() {
			w.gagNew(true)
			return func() { w.gagNew(false) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTwo(t, slow)
				w.latency = func() time.Duration { return time.Millisecond }
				w.start(0, 1)
				defer w.finish()
				w.await(time.Second, ctl.StateUp, 0, 1)
				time.Sleep(24*time.Hour - time.Minute)
				undo := harm(w)
				time.Sleep(2 * time.Minute)
				undo()
				before := w.connections()
				time.Sleep(2 * time.Minute)
				w.await(time.Second, ctl.StateUp, 0, 1)
				if n := w.connections(); n == before {
					t.Error("the session has not been renewed")
				}
				w.mustWork()
			})
		})
	}
}

func TestAHeldPeerDoesNotDial(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		if _, err := w.peers[1].Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := w.connections()
		time.Sleep(time.Minute)
		if n := w.connections(); n != before {
			t.Errorf("%d more connections", n-before)
		}
	})
}

func TestADataSocketThatCannotBeConnectedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.wires.refuse = errors.New("connect: network is unreachable")
		w.start(0, 1)
		defer w.finish()
		time.Sleep(5 * time.Second)
		if s := w.status(0); s.Endpoint != "" || !strings.Contains(s.LastError, "unreachable") {
			t.Errorf("%+v", s)
		}
		w.wires.mu.Lock()
		w.wires.refuse = nil
		w.wires.mu.Unlock()
		time.Sleep(2 * time.Second)
		for side := range 2 {
			if s := w.status(side); s.Endpoint == "" {
				t.Errorf("side %d: %+v", side, s)
			}
		}
	})
}
