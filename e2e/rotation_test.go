package e2e

import (
	"sync"
	"testing"
	"time"

	"tund/e2e/lab"
)

// Rotations on a pair (see tunnel_test.go), with a ping of 100 packets a second through
// the tunnel and, under load, TCP streams both ways beside it.
//
//	alpha  rotate-key, rotate-iv ──►  ◄── rotate-key, rotate-iv  beta

// betweenRotations leaves time for receive keys to retire: at most eight are held, each
// for ten seconds after a newer one came into use.
const betweenRotations = 1500 * time.Millisecond

func TestEightRotationsAndAReloadUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	pids := [2]int{p.Alpha.MustPeer("beta").ChildPID, p.Beta.MustPeer("alpha").ChildPID}
	// Slowly enough that no queue is filled, where a busy machine would lose packets.
	there := p.Alpha.StartStream(p.Beta, lab.Addr(lab.BetaInner4), 16<<20)
	back := p.Beta.StartStream(p.Alpha, lab.Addr(lab.AlphaInner6), 4<<20)
	ping := p.Alpha.StartPing(lab.BetaInner4)
	eightRotations(t, p)
	wantNoLoss(t, "ping over eight rotations and a reload", ping.Stop())
	t.Logf("beside it: %v, %v", there.Stop(lab.Patience), back.Stop(lab.Patience))
	for i, node := range []*lab.Node{p.Alpha, p.Beta} {
		status := node.Status().Peers[0]
		if status.ChildPID != pids[i] || status.Restarts != 0 {
			t.Errorf("%s: child was %d, is %d, %d restarts", node.Name, pids[i], status.ChildPID, status.Restarts)
		}
		if status.Drops["auth"] != 0 || status.Drops["replay"] != 0 || status.Drops["unknown"] != 0 || status.Drops["malformed"] != 0 {
			t.Errorf("%s: drops %v", node.Name, status.Drops)
		}
	}
}

// eightRotations rotates everything eight times, at both ends in turn, and in the middle
// reloads alpha with another keepalive.
func eightRotations(t *testing.T, p *lab.Pair) {
	t.Helper()
	for round := range 8 {
		node, peer := p.Alpha, "beta"
		if round%2 == 1 {
			node, peer = p.Beta, "alpha"
		}
		wantRotation(t, p, "rotate-key", rotate(t, node, "rotate-key", peer))
		wantRotation(t, p, "rotate-iv", rotate(t, node, "rotate-iv", peer))
		if round == 4 {
			p.AlphaTable.Set("beta", "keepalive", `"5s"`)
			p.Alpha.Configure(p.AlphaTable)
			wantReload(t, p.Alpha, "beta", "live")
		}
		time.Sleep(betweenRotations)
	}
}

// wantRotation fails the test unless a rotation went forward, knows of no packet that was
// lost, and both ends now use what it says.
func wantRotation(t *testing.T, p *lab.Pair, verb string, r lab.Rotation) {
	t.Helper()
	one := r.Results[0]
	t.Logf("%s: %d to %d in %v ms", verb, one.From, one.To, one.MS)
	if one.To <= one.From {
		t.Errorf("%s: from %d to %d", verb, one.From, one.To)
	}
	for node, peer := range map[*lab.Node]string{p.Alpha: "beta", p.Beta: "alpha"} {
		status := node.MustPeer(peer)
		got := status.Epoch
		if verb == "rotate-iv" {
			got = status.IVGeneration
		}
		if got != one.To {
			t.Errorf("%s: %s shows %d, want %d", verb, node.Name, got, one.To)
		}
	}
	switch {
	case one.Lost == nil: // the other end's count came late
		t.Logf("%s: does not know what was lost", verb)
	case *one.Lost != 0:
		t.Errorf("%s: %d packets lost", verb, *one.Lost)
	}
}

func TestBothEndsRotateAtTheSameMoment(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	ping := p.Alpha.StartPing(lab.BetaInner4)
	rounds := [][2]string{
		{"rotate-key", "rotate-key"},
		{"rotate-iv", "rotate-iv"},
		{"rotate-key", "rotate-iv"},
		{"rotate-iv", "rotate-key"},
		{"rotate-key", "rotate-key"},
		{"rotate-iv", "rotate-iv"},
	}
	for _, verbs := range rounds {
		var wg sync.WaitGroup
		results := [2]lab.Result{}
		wg.Go(func() { results[0] = p.Alpha.Ctl(verbs[0], "beta", "--json") })
		wg.Go(func() { results[1] = p.Beta.Ctl(verbs[1], "alpha", "--json") })
		wg.Wait()
		for i, r := range results {
			if r.Code != 0 {
				t.Errorf("%v at once: number %d: exit %d: %s%s", verbs, i, r.Code, r.Stdout, r.Stderr)
			}
		}
		wantSameKeys(t, p)
		time.Sleep(betweenRotations)
	}
	wantNoLoss(t, "ping while both ends rotated", ping.Stop())
}

// wantSameKeys fails the test unless both ends come to use the same epoch and generation.
func wantSameKeys(t *testing.T, p *lab.Pair) {
	t.Helper()
	lab.Until(t, lab.Patience, "both ends use the same epoch and generation", func() bool {
		a, b := p.Alpha.MustPeer("beta"), p.Beta.MustPeer("alpha")
		return a.Epoch == b.Epoch && a.IVGeneration == b.IVGeneration
	})
}

func TestKeysRotateByThemselves(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{Extra: []string{`rekey_interval = "10s"`}})
	p.Up()
	ping := p.Alpha.StartPing(lab.BetaInner4)
	first := p.Alpha.MustPeer("beta").Epoch
	p.Beta.WaitPeer("alpha", lab.Patience, "a newer epoch", func(s lab.PeerStatus) bool { return s.Epoch > first })
	wantNoLoss(t, "ping over a rekey by time", ping.Stop())
}
