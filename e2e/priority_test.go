package e2e

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"tund/e2e/lab"
)

// The packet loops that carry a stream of bulk have real-time priority meanwhile, and no longer.
// With one processor, or more than two, they never have it.
func TestLoopsHavePriorityWhileTheyCarryBulk(t *testing.T) {
	byItself(t)
	p := upPair(t, lab.PairOptions{})
	wantPing(t, p.Alpha, lab.BetaInner4)
	children := []int{p.Alpha.MustPeer("beta").ChildPID, p.Beta.MustPeer("alpha").ChildPID}
	wantRealTime(t, "at first", children, 0)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		for ctx.Err() == nil {
			_, _ = p.Alpha.Send(ctx, p.Beta, lab.Addr(lab.BetaInner4), 100<<20)
		}
	}()
	want := 0
	if runtime.NumCPU() == 2 {
		want = 1
	}
	seen := [2]int{}
	for began := time.Now(); ctx.Err() == nil && (seen != [2]int{want, want} || time.Since(began) < time.Second); {
		for i, pid := range children {
			seen[i] = max(seen[i], realTime(t, pid))
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	<-ended
	// The race detector makes loops so busy that they may not have it.
	if seen != [2]int{want, want} && os.Getenv("TUND_RACE") == "" {
		t.Errorf("threads with real-time priority beside a stream: %v, want %d each", seen, want)
	}
	p.Alpha.Ping(lab.BetaInner4, 50, "-i", "0.02")
	wantRealTime(t, "after small packets", children, 0)
}

func wantRealTime(t *testing.T, when string, children []int, want int) {
	t.Helper()
	for _, pid := range children {
		if got := realTime(t, pid); got != want {
			t.Errorf("%s: %d threads of %d have real-time priority, want %d", when, got, pid, want)
		}
	}
}

func realTime(t *testing.T, pid int) int {
	t.Helper()
	count, err := lab.RealTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	return count
}
