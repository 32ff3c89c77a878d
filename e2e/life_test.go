package e2e

import (
	"slices"
	"testing"
	"time"

	"tund/e2e/lab"
)

// How a tund of a pair (see tunnel_test.go) ends, and starts again.

func TestKilledParentLeavesNothingAndStartsAgainAtOnce(t *testing.T) {
	p := upPair(t, lab.PairOptions{})
	child := p.Alpha.MustPeer("beta").ChildPID
	p.Alpha.Kill()
	gone := lab.Until(t, 2*time.Second, "no process and no device is left", func() bool {
		return !lab.Alive(child) && p.Alpha.Index(p.AlphaDevice) == 0
	})
	t.Logf("child and device were gone %v after their parent", gone.Round(time.Millisecond))
	if left := p.Alpha.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	start := time.Now()
	p.Alpha.Start()
	p.WaitUp()
	t.Logf("up again %v after the start", time.Since(start).Round(time.Millisecond))
	wantPing(t, p.Alpha, lab.BetaInner4)
}

func TestParentStartsAtOnceAfterItsDeath(t *testing.T) {
	p := upPair(t, lab.PairOptions{})
	for range 3 {
		p.Alpha.Kill()
		p.Alpha.Start() // not one moment later
		p.Alpha.WaitState("beta", "up", 15*time.Second)
		wantPing(t, p.Alpha, lab.BetaInner4)
	}
}

func TestSIGTERMEndsInOrder(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	child := p.Alpha.MustPeer("beta").ChildPID
	code, took := p.Alpha.Stop()
	t.Logf("ended with %d after %v", code, took.Round(time.Millisecond))
	if code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	if lab.Alive(child) {
		t.Errorf("the child %d outlived its parent", child)
	}
	if left := p.Alpha.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// Told, beta does not wait for the death of the session to be noticed, and soon
	// drops the keys too.
	status := p.Beta.WaitPeer("alpha", time.Second, "no longer up", func(s lab.PeerStatus) bool { return s.State != "up" })
	t.Logf("beta shows alpha as %q: %q", status.State, status.LastError)
	p.Beta.WaitPeer("alpha", 3*time.Second, "no transport any more", func(s lab.PeerStatus) bool {
		return s.State != "up" && s.Transport == ""
	})
	p.Alpha.Start()
	p.WaitUp()
	wantPing(t, p.Beta, lab.AlphaInner4)
}

// A daemon that is told to end in the midst of its start, or twice, ends in order too.
func TestSIGTERMAtOnceEndsInOrder(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	for _, wait := range []time.Duration{50, 100, 200, 400} {
		p.Alpha.Launch()
		time.Sleep(wait * time.Millisecond)
		if !p.Alpha.Running() {
			t.Fatalf("ended by itself: %s", p.Alpha.Log())
		}
		if code, took := p.Alpha.Stop(); code != 0 {
			t.Errorf("SIGTERM %d ms after the start: exit code %d after %v", wait, code, took)
		}
		if left := p.Alpha.Leftovers(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestTundRefusesAWrongConfiguration(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.AlphaTable.Set("beta", "rekey_intervall", `"2m"`)
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.Launch()
	if code, _ := p.Alpha.Wait(5 * time.Second); code == 0 {
		t.Error("tund started with an unknown key")
	}
	wantWords(t, "log", p.Alpha.Log(), "tund.toml", "rekey_intervall", "rekey_interval")
	if slices.Contains(p.Alpha.Interfaces(), p.AlphaDevice) {
		t.Error("a device was made")
	}
}
