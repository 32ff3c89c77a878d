package peer_test

import (
	"testing"
	"time"

	"tund/internal/ctl"
)

func TestASessionThatWasGoodIsRedialledSoon(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		for i := range 12 {
			w.await(time.Second, ctl.StateUp, 0, 1)
			time.Sleep(time.Minute)
			w.cutSessions()
			time.Sleep(time.Millisecond)
			if s := w.status(0); s.State != ctl.StateDegraded {
				t.Fatalf("%s after cut %d", s.State, i)
			}
		}
	})
}
