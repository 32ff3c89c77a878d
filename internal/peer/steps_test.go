package peer_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
)

// atAnyStep begins an exchange between two peers that take 10 ms for everything, does
// harm at each time until it is over, and wants both sides up soon after.
func atAnyStep(t *testing.T, begin, harm func(w *two)) {
	t.Helper()
	for at := time.Duration(0); at <= 130*time.Millisecond; at += 5 * time.Millisecond {
		t.Run(at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTwo(t, nil)
				w.takes(10 * time.Millisecond)
				w.start(0, 1)
				defer w.finish()
				w.await(time.Second, ctl.StateUp, 0, 1)
				begin(w)
				time.Sleep(at)
				harm(w)
				time.Sleep(500 * time.Millisecond)
				w.wires.probe()
				w.await(2*time.Second, ctl.StateUp, 0, 1)
				time.Sleep(10 * time.Second)
				w.await(0, ctl.StateUp, 0, 1)
				w.mustWork()
			})
		})
	}
}

// rotate lets a side rotate without waiting for it.
func rotate(side int, epoch bool) func(w *two) {
	return func(w *two) {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if epoch {
				w.peers[side].RotateKey(ctx)
			} else {
				w.peers[side].RotateIV(ctx)
			}
		}()
	}
}

func crash(side int, pause time.Duration) func(w *two) {
	return func(w *two) {
		end := w.wires.end(side)
		end.die()
		time.Sleep(pause)
		end.revive()
	}
}

func TestAChildMayCrashAtAnyStepOfARekey(t *testing.T) {
	for side := range 2 {
		t.Run(fmt.Sprintf("child %d", side), func(t *testing.T) {
			atAnyStep(t, rotate(0, true), crash(side, 20*time.Millisecond))
		})
	}
}

func TestAChildMayCrashAtAnyStepOfAnIVChange(t *testing.T) {
	for side := range 2 {
		t.Run(fmt.Sprintf("child %d", side), func(t *testing.T) {
			atAnyStep(t, rotate(0, false), crash(side, 60*time.Millisecond))
		})
	}
}

func TestASessionMayDieAtAnyStep(t *testing.T) {
	for _, epoch := range []bool{true, false} {
		t.Run(fmt.Sprintf("of a rekey %t", epoch), func(t *testing.T) {
			atAnyStep(t, rotate(0, epoch), (*two).cutSessions)
		})
	}
}

func TestAChildMayComeAfterItsSessionHasDied(t *testing.T) {
	for side := range 2 {
		t.Run(fmt.Sprintf("child %d", side), func(t *testing.T) {
			atAnyStep(t, rotate(0, true), func(w *two) {
				w.wires.end(side).die()
				time.Sleep(100 * time.Millisecond)
				w.cutSessions()
				time.Sleep(2 * time.Second)
				w.wires.end(side).revive()
			})
		})
	}
}

func TestAChangeWhileAChildStartsReachesIt(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		end := w.wires.end(0)
		end.die() // the next one has read its configuration
		time.Sleep(time.Millisecond)
		c := w.config(0, func(c *config.Peer) { c.KeyLifetime = 2 * time.Hour })
		if err := w.peers[0].Update(t.Context(), c, live("key_lifetime")); err != nil {
			t.Fatal(err)
		}
		end.revive()
		w.await(time.Second, ctl.StateUp, 0, 1)
		synctest.Wait()
		if got := end.inForce.KeyLifetime; got != 2*time.Hour {
			t.Errorf("a key lifetime of %v is in force", got)
		}
	})
}

func TestASessionMayBeReplacedAtAnyStep(t *testing.T) {
	for side := range 2 {
		t.Run(fmt.Sprintf("of a rekey of %d", side), func(t *testing.T) {
			atAnyStep(t, rotate(side, true), func(w *two) {
				c := w.config(0, func(c *config.Peer) { c.Endpoints = []config.Endpoint{{Host: "192.0.2.2", Port: 7901}} })
				if err := w.peers[0].Update(w.t.Context(), c, live("endpoints")); err != nil {
					w.t.Fatal(err)
				}
			})
		})
	}
}
