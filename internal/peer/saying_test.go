package peer_test

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/ctl"
)

func TestSessionAfterALostOneIsLoggedWithItsEndpoint(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		for range 3 {
			w.cutSessions()
			synctest.Wait()
			w.await(time.Minute, ctl.StateUp, 0, 1)
		}
		for side, l := range w.logs {
			lost, established := l.levels("session lost"), l.levels("session established")
			if !slices.Equal(lost, slices.Repeat([]slog.Level{slog.LevelWarn}, 3)) {
				t.Errorf("side %d lost sessions at %v", side, lost)
			}
			if !slices.Equal(established, slices.Repeat([]slog.Level{slog.LevelInfo}, 4)) {
				t.Errorf("side %d established sessions at %v", side, established)
			}
			for _, r := range l.find("session established") {
				if value(r, "endpoint") == "" {
					t.Errorf("side %d does not say where: %v", side, r)
				}
			}
		}
	})
}

// A session that gives no key is lost again and again: the log has the first of each.
func TestSessionsThatComeToNothingAreLoggedOnce(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.wires.mu.Lock()
		w.wires.cut = true
		w.wires.mu.Unlock()
		w.await(time.Minute, ctl.StateDegraded, 0)
		for range 5 {
			w.cutSessions()
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		for _, sentence := range []string{"session lost", "session established"} {
			levels := w.logs[0].levels(sentence)
			loud := slices.DeleteFunc(slices.Clone(levels), func(l slog.Level) bool { return l == slog.LevelDebug })
			want := map[string]int{"session lost": 1, "session established": 2}[sentence]
			if len(levels) < 5 || len(loud) != want {
				t.Errorf("%s: %v", sentence, levels)
			}
		}
	})
}

// count lets a side's child count packets that have come, and gaps.
func (w *two) count(side int, received, missing uint64) {
	w.wires.mu.Lock()
	defer w.wires.mu.Unlock()
	c := &w.wires.ends[side].counters
	c.Received, c.Missing = received, missing
}

func TestLossBeginsAnewWithASessionAndWithAChild(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		if s := w.status(0); s.Lost != 0 || s.Loss != nil {
			t.Errorf("at first: %d lost, %v", s.Lost, s.Loss)
		}
		w.count(0, 30, 10)
		if s := w.status(0); s.Lost != 10 || s.Loss == nil || *s.Loss != 0.25 {
			t.Errorf("in the first session: %d lost, %v", s.Lost, s.Loss)
		}
		w.cutSessions()
		synctest.Wait()
		w.await(time.Minute, ctl.StateUp, 0, 1)
		if s := w.status(0); s.Lost != 0 || s.Loss != nil {
			t.Errorf("in the second session: %d lost, %v", s.Lost, s.Loss)
		}
		w.count(0, 31, 11)
		if s := w.status(0); s.Lost != 1 || s.Loss == nil || *s.Loss != 0.5 {
			t.Errorf("after two packets more: %d lost, %v", s.Lost, s.Loss)
		}
		w.count(0, 0, 0)
		w.wires.end(0).crash()
		w.await(time.Minute, ctl.StateUp, 0, 1)
		if s := w.status(0); s.Lost != 0 || s.Loss != nil {
			t.Errorf("with another child: %d lost, %v", s.Lost, s.Loss)
		}
	})
}
