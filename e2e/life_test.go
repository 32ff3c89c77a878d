package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// How a tund of a pair (see tunnel_test.go) ends, and starts again.

func TestKilledParentLeavesNothingAndStartsAgainAtOnce(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	child := p.Alpha.MustPeer("beta").ChildPID
	p.Alpha.Kill()
	gone := lab.Until(t, lab.Patience, "no process and no device is left", func() bool {
		return !lab.Alive(child) && p.Alpha.Index(p.AlphaDevice) == 0
	})
	t.Logf("child and device were gone %v after their parent", gone.Round(time.Millisecond))
	if left := p.Alpha.Leftovers(lab.Patience); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	start := time.Now()
	p.Alpha.Start()
	p.WaitUp()
	t.Logf("up again %v after the start", time.Since(start).Round(time.Millisecond))
	wantPing(t, p.Alpha, lab.BetaInner4)
}

func TestParentStartsAtOnceAfterItsDeath(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	for range 3 {
		p.Alpha.Kill()
		p.Alpha.Start() // not one moment later
		p.Alpha.WaitState("beta", "up", lab.Patience)
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
	if left := p.Alpha.Leftovers(lab.Patience); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// Told, beta does not wait for the death of the session to be noticed, and soon
	// drops the keys too.
	status := p.Beta.WaitPeer("alpha", lab.Patience, "no longer up", func(s lab.PeerStatus) bool { return s.State != "up" })
	t.Logf("beta shows alpha as %q: %q", status.State, status.LastError)
	wantWords(t, "log of beta", p.Beta.Log(), "shutdown received")
	p.Beta.WaitPeer("alpha", lab.Patience, "no transport any more", func(s lab.PeerStatus) bool {
		return s.State != "up" && s.Transport == ""
	})
	p.Alpha.Start()
	p.WaitUp()
	wantPing(t, p.Beta, lab.AlphaInner4)
}

// A daemon that is told to end in the midst of its start ends in order too.
func TestSIGTERMAtOnceEndsInOrder(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	for round, wait := range []time.Duration{0, 5, 20, 100, 300} {
		p.Alpha.Launch()
		// From its first line on it has something to put in order.
		lab.Until(t, lab.Patience, "the first line of the log", func() bool {
			return strings.Count(p.Alpha.Log(), "msg=listening") > round
		})
		time.Sleep(wait * time.Millisecond)
		if code, took := p.Alpha.Stop(); code != 0 {
			t.Errorf("SIGTERM %d ms after the first line: exit code %d after %v", wait, code, took)
		}
		if left := p.Alpha.Leftovers(lab.Patience); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// A peer that does not answer does not keep tund from ending.
func TestSIGTERMEndsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	restoreAlpha, restoreBeta := p.Alpha.Isolate(p.Link), p.Beta.Isolate(p.Link)
	code, took := p.Alpha.Stop()
	t.Logf("ended with %d after %v", code, took.Round(time.Millisecond))
	if code != 0 {
		t.Errorf("SIGTERM without an answer: exit code %d", code)
	}
	restoreAlpha()
	restoreBeta()
}

// What comes and goes leaves no descriptor behind in tund.
func TestComingAndGoingLeaksNoDescriptor(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	before := descriptors(t, p.Alpha)
	for range 4 {
		wantCtl(t, p.Alpha, 0, "down", "beta")
		wantCtl(t, p.Alpha, 0, "up", "beta")
		p.WaitUp()
		kill(t, p.Alpha.MustPeer("beta").ChildPID)
		p.Alpha.WaitPeer("beta", lab.Patience, "a new child", func(s lab.PeerStatus) bool {
			return s.Restarts > 0 && s.State == "up"
		})
	}
	lab.Until(t, lab.Patience, "tund holds no more than before", func() bool {
		return descriptors(t, p.Alpha) <= before
	})
}

// descriptors returns how many descriptors a node's tund has open.
func descriptors(t *testing.T, n *lab.Node) int {
	t.Helper()
	found, err := lab.Descriptors(n.PID())
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestTundRefusesAWrongConfiguration(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	if r := p.Alpha.Tund("check", p.Alpha.Config()); r.Code != 0 || r.Stdout != "configuration ok\n" {
		t.Errorf("tund check: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	p.AlphaTable.Set("beta", "rekey_intervall", `"2m"`)
	p.Alpha.Configure(p.AlphaTable)
	if r := p.Alpha.Tund("check", p.Alpha.Config()); r.Code == 0 || !strings.Contains(r.Stderr, "rekey_intervall") {
		t.Errorf("tund check of a wrong file: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	p.Alpha.Launch()
	if code, _ := p.Alpha.Wait(lab.Patience); code == 0 {
		t.Error("tund started with an unknown key")
	}
	wantWords(t, "log", p.Alpha.Log(), "tund.toml", "rekey_intervall", "rekey_interval")
	if slices.Contains(p.Alpha.Interfaces(), p.AlphaDevice) {
		t.Error("a device was made")
	}
}
