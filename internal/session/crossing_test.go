package session

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestCrossingExchangesEndAsOne(t *testing.T) {
	const latency = 10 * time.Millisecond
	type start struct {
		name string
		a, b Kind
	}
	starts := []start{
		{"rekey and rekey", KindRekey, KindRekey},
		{"rekey and reiv", KindRekey, KindReiv},
		{"reiv and rekey", KindReiv, KindRekey},
		{"reiv and reiv", KindReiv, KindReiv},
	}
	smaller, larger := twoIdentities()
	for _, swapped := range []bool{false, true} {
		for _, c := range starts {
			for offset := -60 * time.Millisecond; offset <= 60*time.Millisecond; offset += 5 * time.Millisecond {
				t.Run(fmt.Sprintf("%s, swapped %t, %s", c.name, swapped, offset), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, smaller, larger)
						if swapped {
							w = newWorld(t, larger, smaller)
						}
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						l := w.opened(ctx)
						w.first()
						l.latency = latency
						w.a.installDelay, w.b.installDelay = 7*time.Millisecond, 3*time.Millisecond
						w.a.begins(c.a, max(0, offset))
						w.b.begins(c.b, max(0, -offset))
						after(time.Second)
						w.sameEpoch(c.a, c.b)
						w.traffic()
						cancel()
						after(time.Minute)
					})
				})
			}
		}
	}
}

// begins starts an exchange after a while.
func (n *node) begins(k Kind, wait time.Duration) {
	s := n.s
	go func() {
		time.Sleep(wait)
		if k == KindRekey {
			s.Rekey()
		} else {
			s.Reiv()
		}
	}()
}

// sameEpoch checks that both ends have come to the same and that no exchange failed.
func (w *world) sameEpoch(kinds ...Kind) {
	w.t.Helper()
	for _, n := range []*node{w.a, w.b} {
		if n.isOver() {
			w.t.Fatalf("%s: session ended: %v", n.name, n.err)
		}
		for _, e := range events[Exchanged](n) {
			if e.Err != nil {
				w.t.Errorf("%s: %+v", n.name, e)
			}
		}
	}
	ea, eb := last[Exchanged](w.t, w.a), last[Exchanged](w.t, w.b)
	if ea.Kind != eb.Kind || ea.Epoch != eb.Epoch || ea.Generation != eb.Generation || ea.Initiator == eb.Initiator {
		w.t.Errorf("the ends differ: %+v and %+v", ea, eb)
	}
	for _, n := range []*node{w.a, w.b} {
		to := w.other(n)
		if at, ok := to.child.open(n.child.send); !ok || at != to.child.sending {
			w.t.Errorf("%s does not send with the key of %s", n.name, to.name)
		}
	}
	for _, k := range kinds {
		if k == KindRekey && ea.Epoch < 2 {
			w.t.Errorf("no new epoch: %+v", ea)
		}
	}
}

// TestSessionMayDieBetweenAnyTwoSteps counts every message carried and every event taken as
// a step, cuts the link before each, and lets a new session follow.
func TestSessionMayDieBetweenAnyTwoSteps(t *testing.T) {
	type start struct {
		name string
		a, b Kind // 0: none
	}
	for _, c := range []start{
		{"rekey by the dialler", KindRekey, 0},
		{"rekey by the listener", 0, KindRekey},
		{"reiv by the dialler", KindReiv, 0},
		{"reiv by the listener", 0, KindReiv},
		{"crossing rekeys", KindRekey, KindRekey},
		{"crossing kinds", KindReiv, KindRekey},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, d := range []death{cutBoth, muteA, muteB} {
				for _, packets := range []bool{false, true} {
					step := 1
					for dieBefore(t, d, step, packets, c.a, c.b) {
						step++
					}
					if step < 10 {
						t.Errorf("only %d steps", step)
					}
				}
			}
		})
	}
}

// death is how a session dies.
type death int

const (
	cutBoth death = iota
	muteA         // what a sends is lost from then on; b finds out by silence or time-out
	muteB
)

// dieBefore says whether there was such a step.
func dieBefore(t *testing.T, d death, step int, packets bool, a, b Kind) (died bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		smaller, larger := twoIdentities()
		w := newWorld(t, smaller, larger)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := w.opened(ctx)
		w.first()
		w.a.installDelay, w.b.installDelay = time.Millisecond, time.Millisecond

		count := 0
		pass := func(fromA bool) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			count++
			if count == step {
				died = true
				if d == cutBoth {
					l.cut()
				}
			}
			return !died || d == muteA && !fromA || d == muteB && fromA
		}
		w.a.onStep, w.b.onStep = func() { pass(false) }, func() { pass(false) }
		l.mu.Lock()
		l.onFrame = func(fromA bool, _ Message) bool { return pass(fromA) }
		l.mu.Unlock()
		for n, k := range map[*node]Kind{w.a: a, w.b: b} {
			if k != 0 {
				n.begins(k, 0)
			}
		}
		for range 40 { // within 4 s: before the first PING
			after(100 * time.Millisecond)
			if packets {
				w.traffic()
			}
		}
		if !died {
			w.sameEpoch()
			return
		}
		if d != cutBoth {
			after(30 * time.Second)
		}
		if !w.a.isOver() || !w.b.isOver() {
			t.Fatalf("step %d: a session goes on", step)
		}
		for _, n := range []*node{w.a, w.b} {
			if len(events[Closed](n)) != 1 {
				t.Errorf("step %d: %s: %v", step, n.name, kinds(n))
			}
		}
		w.traffic() // what is pending is confirmed by packets alone

		w.a.onStep, w.b.onStep = nil, nil
		w.opened(ctx)
		w.first()
		w.sameEpoch()
		cancel()
		after(time.Minute)
	})
	return died
}
