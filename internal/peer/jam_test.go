package peer_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/session"
)

// overRelays runs f with two peers whose sessions pass a relay, once with either side as the
// dialler, which begins the first exchange of each session.
func overRelays(t *testing.T, f func(t *testing.T, w *two)) {
	t.Helper()
	for name, dialler := range map[string]int{"left dials": 0, "right dials": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTwo(t, func(side int, c *config.Peer) {
					c.Endpoints = nil
					if side == dialler {
						bothDial(side, c)
					}
				})
				w.takes(20 * time.Millisecond)
				defer w.finish()
				f(t, w)
			})
		})
	}
}

// resets counts how often a message of type M was lost with its session, at most limit times.
func resets[M session.Message](w *two, limit int) *atomic.Int32 {
	count := new(atomic.Int32)
	w.cutAt(func(m session.Message) bool {
		if _, ok := m.(M); !ok || int(count.Load()) >= limit {
			return false
		}
		count.Add(1)
		return true
	})
	return count
}

// reached waits until so many sessions were reset, for as long as no key ends by its age.
func reached(t *testing.T, count *atomic.Int32, limit int) {
	t.Helper()
	for range 50 * 60 {
		if int(count.Load()) == limit {
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("only %d of %d exchanges have come so far", count.Load(), limit)
}

// Whatever a session was reset at, and however often, the next one that lives gets a key.
func TestSlotsOfSessionsThatWereResetLeaveRoomForANewKey(t *testing.T) {
	const often = 20
	for name, reset := range map[string]func(w *two) *atomic.Int32{
		"instead of the reply": func(w *two) *atomic.Int32 { return resets[session.RekeyReply](w, often) },
		"instead of the end":   func(w *two) *atomic.Int32 { return resets[session.RekeyDone](w, often) },
	} {
		t.Run(name, func(t *testing.T) {
			overRelays(t, func(t *testing.T, w *two) {
				w.wires.cut = true
				count := reset(w)
				w.start(0, 1)
				reached(t, count, often)
				w.wires.setCut(false)
				w.wires.probe()
				w.await(time.Minute, ctl.StateUp, 0, 1)
				w.mustWork()
			})
		})
	}
}

// A key that works is worth more than any that never came into use.
func TestSlotsOfSessionsThatWereResetDisplaceNoKeyInUse(t *testing.T) {
	overRelays(t, func(t *testing.T, w *two) {
		w.start(0, 1)
		w.await(time.Second, ctl.StateUp, 0, 1)
		count := resets[session.RekeyReply](w, 20)
		w.cutSessions()
		reached(t, count, 20)
		w.mustWork()
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}

func TestGenerationsThatNothingArrivedInLeaveRoomForANewKey(t *testing.T) {
	overRelays(t, func(t *testing.T, w *two) {
		w.start(0, 1)
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.wires.setCut(true)
		for range 31 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			w.peers[0].RotateIV(ctx) // nothing confirms it
			cancel()
		}
		if n, _, _ := w.end(0); n != 32 {
			t.Fatalf("%d slots are held", n)
		}
		for range 3 {
			w.cutSessions()
			time.Sleep(2 * time.Minute)
		}
		w.wires.setCut(false)
		w.wires.probe()
		w.await(time.Minute, ctl.StateUp, 0, 1)
		if s := w.status(0); s.IVGeneration != 0 {
			t.Errorf("generation %d is in use after a new session", s.IVGeneration)
		}
		w.mustWork()
	})
}

// The peer may have switched to a slot just before its session broke, and the end of the
// exchange was lost: what it sends is understood until there is something newer.
func TestASlotThatThePeerMayHaveSwitchedToOutlivesItsSession(t *testing.T) {
	overRelays(t, func(_ *testing.T, w *two) {
		w.start(0, 1)
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.wires.setCut(true)
		for range 2 {
			resets[session.RekeyDone](w, 1)
			rotate(0, true)(w)
			time.Sleep(time.Second)
			w.setOff(true)
			time.Sleep(time.Minute)
			w.mustWork()
			w.setOff(false)
			time.Sleep(time.Minute)
		}
		w.wires.setCut(false)
		w.wires.probe()
		w.await(time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}
