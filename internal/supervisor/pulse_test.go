package supervisor_test

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/pipe"
	"tund/internal/supervisor"
)

func TestSupervisorThatIsNotRunDoesNotStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervisor.New(supervisor.Options{})
		time.Sleep(time.Hour)
		if s.Stalled() {
			t.Error("stalled before it was run")
		}
	})
}

// What Run waits for takes 20 s at most: the first words of a child. The slack is 10 s.
func TestSupervisorStallsWhenItMovesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervisor.New(supervisor.Options{})
		s.MoveOn()
		time.Sleep(29 * time.Second)
		if s.Stalled() {
			t.Error("stalled within the longest wait and its slack")
		}
		time.Sleep(2 * time.Second)
		if !s.Stalled() {
			t.Error("not stalled though it has not moved")
		}
		s.MoveOn()
		if s.Stalled() {
			t.Error("stalled though it moves again")
		}
	})
}

func TestPulseGoesOnWithEveryEventAndEndsWithRun(t *testing.T) {
	r := supervise(t, "good", heartbeat(10*time.Millisecond))
	r.started()
	before := r.s.Moved()
	for {
		if stats, ok := r.received().(pipe.Stats); ok && stats.Seq != 0 {
			break
		}
	}
	if now := r.s.Moved(); !now.After(before) {
		t.Errorf("moved at %v, before at %v", now, before)
	}
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	r.ended = nil
	if !r.s.Moved().IsZero() {
		t.Error("the pulse outlives Run")
	}
}
