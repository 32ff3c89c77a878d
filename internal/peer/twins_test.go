package peer_test

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/ctl"
	"tund/internal/session"
)

// withClone runs f with two peers that are up, and another machine that has the left one's key.
func withClone(t *testing.T, latency time.Duration, f func(t *testing.T, w *two, clone *hostile)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.latency = func() time.Duration { return latency }
		w.start(0, 1)
		defer w.finish()
		w.await(30*time.Second, ctl.StateUp, 0, 1)
		f(t, w, &hostile{w: w})
	})
}

// dial is what a clone does: it comes again and again.
func (h *hostile) dial(instance byte) net.Conn {
	conn := h.connect()
	h.hello(conn, instance)
	return conn
}

func (w *two) wantWarning(side int, text string) {
	w.t.Helper()
	if s := w.status(side); len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], text) {
		w.t.Errorf("status of side %d warns of %q", side, s.Warnings)
	}
}

func TestOfTwoMachinesWithOneKeyTheFirstIsKept(t *testing.T) {
	for _, latency := range []time.Duration{10 * time.Millisecond, 400 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			withClone(t, latency, func(t *testing.T, w *two, clone *hostile) {
				clone.dial(77) // it may be a restart, and is let in
				time.Sleep(30 * time.Second)
				if n := clone.told[session.CloseSameKey].Load(); n != 1 {
					t.Fatalf("the clone was told %d times when the first machine came back", n)
				}
				w.await(0, ctl.StateUp, 0, 1)
				sessions, epoch := w.connections(), w.status(1).Epoch
				for range 60 {
					clone.dial(77)
					time.Sleep(time.Second)
					w.await(0, ctl.StateUp, 0, 1)
				}
				time.Sleep(5 * time.Second)
				if n := clone.told[session.CloseSameKey].Load(); n < 50 || clone.open.Load() != 0 {
					t.Errorf("the clone was told %d times, %d sessions are open", n, clone.open.Load())
				}
				if w.connections() != sessions || w.status(1).Epoch > epoch+1 {
					t.Errorf("%d sessions after %d, epoch %d after %d", w.connections(), sessions, w.status(1).Epoch, epoch)
				}
				w.wantWarning(1, "two machines")
				warned := 0
				for _, level := range w.logs[1].levels("two machines use one key") {
					if level == slog.LevelWarn {
						warned++
					}
				}
				if warned != 1 {
					t.Errorf("%d warnings in the log", warned)
				}
				w.mustWork()
				time.Sleep(20 * time.Minute)
				if s := w.status(1); len(s.Warnings) != 0 {
					t.Errorf("it is shown for ever: %q", s.Warnings)
				}
			})
		})
	}
}

// The second machine goes on trying, in peace, says why it gets nothing, and is let in when
// the first one is gone.
func TestTheSecondMachineIsLetInWhenTheFirstIsGone(t *testing.T) {
	lonely(t, func(t *testing.T, w *two, first *hostile) {
		first.dial(77)
		time.Sleep(time.Second)
		w.start(0)
		time.Sleep(time.Second)
		conn := first.dial(77)
		time.Sleep(2 * time.Minute)
		if s := w.status(0); s.State == ctl.StateUp || !strings.Contains(s.LastError, "another machine uses the key of this node") {
			t.Errorf("the second one is %s: %s", s.State, s.LastError)
		}
		if n := w.connections(); n < 5 || n > 15 {
			t.Errorf("it tried %d times in 2 minutes", n)
		}
		if first.open.Load() != 1 {
			t.Errorf("the first machine has %d sessions", first.open.Load())
		}
		w.wantWarning(1, "two machines")
		_ = conn.Close()
		w.await(30*time.Second, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}

// The first machine may have died without a word.
func TestTheSecondMachineIsLetInWhenTheFirstIsSilent(t *testing.T) {
	lonely(t, func(_ *testing.T, w *two, first *hostile) {
		first.dial(77)
		time.Sleep(time.Second)
		w.start(0)
		time.Sleep(time.Second)
		first.dial(77)
		time.Sleep(time.Second)
		first.deaf.Store(true)
		w.await(30*time.Second, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}

func TestAPeerThatIsRestartedAgainAndAgainIsOneMachine(t *testing.T) {
	lonely(t, func(t *testing.T, w *two, h *hostile) {
		for instance := range byte(50) {
			conn := h.dial(instance + 10)
			time.Sleep(time.Second)
			if h.open.Load() != 1 {
				t.Fatalf("start %d: %d sessions", instance, h.open.Load())
			}
			if instance%2 == 0 {
				_ = conn.Close()
				time.Sleep(2 * time.Second)
			} else {
				h.deaf.Store(true) // it has lost its power
				again := h.dial(instance + 100)
				time.Sleep(3 * time.Second)
				h.deaf.Store(false)
				if h.open.Load() != 1 {
					t.Fatalf("start %d after a loss of power: %d sessions", instance, h.open.Load())
				}
				_ = again.Close()
				time.Sleep(2 * time.Second)
			}
		}
		if s := w.status(1); len(s.Warnings) != 0 {
			t.Errorf("%q", s.Warnings)
		}
	})
}
