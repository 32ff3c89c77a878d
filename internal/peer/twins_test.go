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

func TestOfTwoMachinesWithOneKeyTheOneThatWorksIsKept(t *testing.T) {
	withClone(t, 10*time.Millisecond, func(t *testing.T, w *two, clone *hostile) {
		before := w.status(1).Epoch
		for range 60 {
			clone.dial(77)
			time.Sleep(time.Second)
			w.await(0, ctl.StateUp, 0, 1)
		}
		if n := clone.told[session.CloseSameKey].Load(); n != 60 {
			t.Errorf("the clone was told %d times", n)
		}
		if w.connections() != 1 || w.status(1).Epoch != before {
			t.Errorf("%d sessions, epoch %d after %d", w.connections(), w.status(1).Epoch, before)
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
}

// The clone's own peer goes on trying, in peace, and is let in when the first machine is gone.
func TestTheSecondMachineIsLetInWhenTheFirstIsGone(t *testing.T) {
	withClone(t, 10*time.Millisecond, func(t *testing.T, w *two, clone *hostile) {
		w.setOff(true)
		w.cutSessions()
		conn := clone.dial(77)
		time.Sleep(time.Second)
		w.setOff(false)
		time.Sleep(2 * time.Minute)
		if s := w.status(0); s.State == ctl.StateUp || !strings.Contains(s.LastError, "another machine uses the key of this node") {
			t.Errorf("the second one is %s: %s", s.State, s.LastError)
		}
		if n := w.connections(); n < 5 || n > 15 {
			t.Errorf("it tried %d times in 2 minutes", n)
		}
		w.wantWarning(1, "two machines")
		_ = conn.Close()
		w.await(30*time.Second, ctl.StateUp, 0, 1)
		w.mustWork()
	})
}

// On a slow way the first machine may not prove itself in time. It comes back, which no
// restarted program does.
func TestAnInstanceThatComesBackShowsThatThereAreTwoMachines(t *testing.T) {
	withClone(t, 400*time.Millisecond, func(t *testing.T, w *two, clone *hostile) {
		clone.dial(77)
		time.Sleep(2 * time.Minute)
		if n := w.connections(); n > 15 {
			t.Errorf("%d sessions", n)
		}
		w.wantWarning(1, "two machines")
		if clone.open.Load() != 1 {
			t.Error("the second machine was not kept")
		}
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
				time.Sleep(session.RestartLimit + 3*time.Second)
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
