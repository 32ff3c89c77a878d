package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/ctl"
)

// A fakePeer answers when its turn comes: at once, with an error, or when it is let go.
type fakePeer struct {
	name string
	err  error
	hang chan struct{} // nil: it does not
}

func (p *fakePeer) Name() string { return p.name }

func (p *fakePeer) Alive(ctx context.Context) error {
	if p.hang != nil {
		select {
		case <-p.hang:
		case <-ctx.Done():
		}
	}
	return p.err
}

// kennel is a watchdog and what it has said.
type kennel struct {
	*watchdog
	pings int
	peers []answerer
}

func newKennel(interval time.Duration, peers ...answerer) *kennel {
	k := &kennel{peers: peers}
	k.watchdog = &watchdog{
		log: slog.New(slog.DiscardHandler), interval: interval, wg: new(sync.WaitGroup), asked: map[answerer]*question{},
		ping: func() error { k.pings++; return nil },
	}
	return k
}

// during counts the pings of as many intervals.
func (k *kennel) during(t *testing.T, intervals int) int {
	t.Helper()
	before := k.pings
	for range intervals {
		if err := k.pet(t.Context(), k.peers); err != nil {
			t.Error(err)
		}
		time.Sleep(k.interval)
	}
	return k.pings - before
}

func TestWatchdogIsPingedWhileEveryPeerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := newKennel(5*time.Second).during(t, 4); got != 4 {
			t.Errorf("without peers: %d pings of 4", got)
		}
		if got := newKennel(5*time.Second, &fakePeer{name: "a"}, &fakePeer{name: "b"}).during(t, 20); got != 20 {
			t.Errorf("two peers: %d pings of 20", got)
		}
	})
}

func TestWatchdogIsNotPingedWhileAPeerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := &fakePeer{name: "b", hang: make(chan struct{})}
		k := newKennel(5*time.Second, &fakePeer{name: "a"}, hung)
		if got := k.during(t, 20); got != 3 { // at 0, 5 and 10 s
			t.Errorf("%d pings, want those of the first ten seconds", got)
		}
		close(hung.hang)
		synctest.Wait()
		if got := k.during(t, 5); got != 5 {
			t.Errorf("after its answer %d pings of 5", got)
		}
	})
}

func TestWatchdogForgetsAPeerThatIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := &fakePeer{name: "b", hang: make(chan struct{})}
		k := newKennel(5*time.Second, hung)
		k.during(t, 10)
		k.peers = nil
		if got := k.during(t, 3); got != 3 {
			t.Errorf("%d pings of 3", got)
		}
	})
}

func TestWatchdogTakesAPeerWhoseSupervisorStallsForHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stalled := &fakePeer{name: "a", err: errors.New("stalled")}
		k := newKennel(5*time.Second, stalled)
		if got := k.during(t, 20); got != 3 {
			t.Errorf("%d pings, want those of the first ten seconds", got)
		}
		synctest.Wait() // it has been asked
		stalled.err = nil
		k.during(t, 1) // asks again
		if got := k.during(t, 5); got != 5 {
			t.Errorf("after it got on %d pings of 5", got)
		}
	})
}

func TestWatchdogOfNobodyAsksNobody(t *testing.T) {
	k := newKennel(0, &fakePeer{name: "a"})
	if due, stop := k.ticks(); due != nil {
		t.Error("ticks")
	} else {
		stop()
	}
	if got := k.during(t, 3); got != 0 || len(k.asked) != 0 {
		t.Errorf("%d pings, %d questions", got, len(k.asked))
	}
}

// The loop of a real peer hangs while its device is being opened.
func TestPeerLoopThatHangsStopsThePings(t *testing.T) {
	k := newKernel()
	r := newRig(t, k, "[peer.a]\n[peer.b]\n")
	pings := 0
	r.dog = newKennel(20 * time.Millisecond).watchdog
	r.dog.ping = func() error { pings++; return nil }
	during := func() int {
		before := pings
		for range 20 {
			r.petWatchdog(t.Context())
			time.Sleep(r.dog.interval)
		}
		return pings - before
	}
	if got := during(); got == 0 {
		t.Error("no ping though both peers answer")
	}
	if _, err := r.byName("a").Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan struct{})
	k.hangOpening(stuck)
	go func() { _ = r.byName("a").Up(t.Context()) }() // ends when the test does, or with an answer
	for !k.waiting.Load() {
		time.Sleep(time.Millisecond)
	}
	during()
	if got := during(); got != 0 {
		t.Errorf("%d pings while a peer hangs", got)
	}
	close(stuck)
	during()
	if got := during(); got == 0 {
		t.Error("no ping though both peers answer again")
	}
	r.k.stalled.Store(true)
	during()
	if got := during(); got != 0 {
		t.Errorf("%d pings while nobody looks after children", got)
	}
}

func TestSummaryIsWhatAnAdministratorAsksFirst(t *testing.T) {
	const up, rekeying, degraded, down = ctl.StateUp, ctl.StateRekeying, ctl.StateDegraded, ctl.StateDown
	for _, tt := range []struct {
		states               []ctl.State
		refused, unreachable bool
		want                 string
	}{
		{nil, false, false, "no peers configured"},
		{[]ctl.State{up}, false, false, "1 peer, 1 up"},
		{[]ctl.State{""}, false, false, "1 peer, 0 up"},
		{[]ctl.State{up, rekeying, up, down}, false, false, "4 peers, 3 up"},
		{[]ctl.State{up, degraded, ctl.StateDisabled, degraded}, false, false, "4 peers, 1 up, 2 degraded, 1 disabled"},
		{nil, true, false, "no peers configured; the configuration on disk is not in force: tunctl status says why"},
		{[]ctl.State{up}, false, true, "1 peer, 1 up; no control socket: the log says why"},
	} {
		if got := summary(tt.states, nil, tt.refused, tt.unreachable); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.states, got, tt.want)
		}
	}
}
