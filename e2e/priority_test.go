package e2e

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/e2e/lab"
)

// The packet loops that carry a stream of bulk have real-time priority meanwhile, and no longer.
// With one processor, or more than two, they never have it.
func TestLoopsHavePriorityWhileTheyCarryBulk(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	wantPing(t, p.Alpha, lab.BetaInner4)
	children := []int{p.Alpha.MustPeer("beta").ChildPID, p.Beta.MustPeer("alpha").ChildPID}
	wantRealTime(t, "at first", children, 0)

	ctx, end := bulk(t, p, 20*time.Second)
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
	end()
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
	return policies(t, pid)[unix.SCHED_RR]
}

func policies(t *testing.T, pid int) map[uint32]int {
	t.Helper()
	threads, err := lab.Policies(pid)
	if err != nil {
		t.Fatal(err)
	}
	return threads
}

// Where somebody has chosen how tund is scheduled, its loops stay so.
func TestLoopsKeepThePolicyThatWasChosen(t *testing.T) {
	t.Parallel()
	for name, attributes := range map[string]unix.SchedAttr{
		"a real-time priority": {Policy: unix.SCHED_RR, Priority: 1},
		"batch":                {Policy: unix.SCHED_BATCH},
	} {
		t.Run(name, func(t *testing.T) {
			p := upPair(t, lab.PairOptions{})
			first := p.Alpha.MustPeer("beta").ChildPID
			if err := lab.Schedule(p.Alpha.PID(), attributes); err != nil {
				t.Fatal(err)
			}
			kill(t, first)
			child := p.Alpha.WaitPeer("beta", lab.Patience, "a new child", func(peer lab.PeerStatus) bool {
				return peer.ChildPID != 0 && peer.ChildPID != first && peer.State == "up"
			}).ChildPID
			want := func(when string) {
				t.Helper()
				if threads := policies(t, child); len(threads) != 1 || threads[attributes.Policy] == 0 {
					t.Fatalf("%s: threads by policy: %v, all of them shall have %d", when, threads, attributes.Policy)
				}
			}
			ctx, end := bulk(t, p, time.Second)
			for ctx.Err() == nil {
				want("beside a stream")
				time.Sleep(5 * time.Millisecond)
			}
			end()
			p.Alpha.Ping(lab.BetaInner4, 50, "-i", "0.02")
			want("after small packets")
		})
	}
}

// bulk sends one stream after the other, until end or for d, when ctx ends.
func bulk(t *testing.T, p *lab.Pair, d time.Duration) (ctx context.Context, end func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	var running sync.WaitGroup
	running.Go(func() { // ends with ctx
		for ctx.Err() == nil {
			_, _ = p.Alpha.Send(ctx, p.Beta, lab.Addr(lab.BetaInner4), 100<<20)
		}
	})
	end = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(end)
	return ctx, end
}
