package e2e

import (
	"fmt"
	"testing"
	"time"

	"tund/e2e/lab"
)

// Faults on the link of a pair (see tunnel_test.go), by nft rules at the input of both
// nodes: everything is lost, only the session is lost, or the session is reset.
//
//	alpha ──╳── the link ──╳── beta

func TestOpenConnectionSurvivesTwentySecondsOfSilence(t *testing.T) {
	t.Parallel()
	const silence = 20 * time.Second
	p := upPair(t, lab.PairOptions{})
	conversation := p.Alpha.Converse(p.Beta, lab.Addr(lab.BetaInner4))
	if err := conversation.Say(lab.Patience); err != nil {
		t.Fatalf("before: %v", err)
	}
	restoreAlpha, restoreBeta := p.Alpha.Isolate(p.Link), p.Beta.Isolate(p.Link)
	said := make(chan error, 1) // one result, read at the end
	go func() { said <- conversation.Say(5 * lab.Patience) }()
	time.Sleep(silence)
	p.Alpha.WaitPeer("beta", lab.Patience, "found dead in the silence", func(s lab.PeerStatus) bool { return s.State != "up" })
	restoreAlpha()
	restoreBeta()
	restored := time.Now()
	if err := <-said; err != nil {
		t.Fatalf("what was said in the silence: %v", err)
	}
	t.Logf("heard %v after the link was restored", time.Since(restored).Round(time.Millisecond))
	for range 10 {
		if err := conversation.Say(lab.Patience); err != nil {
			t.Fatalf("after: %v", err)
		}
	}
	// The back-off may have come to 30 s while nothing answered.
	p.Alpha.WaitState("beta", "up", lab.Patience)
	p.Beta.WaitState("alpha", "up", lab.Patience)
	rotate(t, p.Alpha, "rotate-key", "beta")
}

// A dead session stops neither the packets nor the node: a rotation then fails, within
// its time, and works again when the session is back.
func TestPacketsFlowWhileTheSessionIsDead(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	ping := p.Alpha.StartPing(lab.BetaInner4)
	cut := []string{fmt.Sprintf("tcp dport %d", lab.Port), fmt.Sprintf("tcp sport %d", lab.Port)}
	restoreAlpha, restoreBeta := p.Alpha.Drop(cut...), p.Beta.Drop(cut...)
	start := time.Now()
	var r lab.Rotation
	if code := p.Alpha.CtlJSON(&r, "rotate-key", "beta"); code != 1 || len(r.Results) != 1 || r.Results[0].Result == "done" {
		t.Errorf("rotate-key without a way to the peer: exit %d, %+v", code, r)
	}
	t.Logf("rotation given up after %v", time.Since(start).Round(time.Millisecond))
	lab.Until(t, lab.Patience, "the session is found dead", func() bool {
		return !isUp(p.Alpha, "beta") && !isUp(p.Beta, "alpha")
	})
	restoreAlpha()
	restoreBeta()
	p.Alpha.WaitState("beta", "up", lab.Patience)
	p.Beta.WaitState("alpha", "up", lab.Patience)
	rotate(t, p.Beta, "rotate-key", "alpha")
	wantNoLoss(t, "ping while the session was dead", ping.Stop())
}

// The session is reset at many different moments of a rotation: whatever step it had
// come to, no packet is lost, and a new session takes over.
func TestSessionResetDuringRotationsLosesNoPacket(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	ping := p.Alpha.StartPing(lab.BetaInner4)
	done := 0
	for round := range 6 {
		finished := make(chan int, 1) // the exit code, read below
		verb := []string{"rotate-key", "rotate-iv"}[round%2]
		go func() { finished <- p.Alpha.Ctl(verb, "beta").Code }()
		time.Sleep(time.Duration(round) * 4 * time.Millisecond)
		restore := p.Beta.Reset(lab.Port)
		if <-finished == 0 {
			done++
		}
		restore()
		p.Alpha.WaitState("beta", "up", lab.Patience)
		p.Beta.WaitState("alpha", "up", lab.Patience)
	}
	t.Logf("%d of 6 rotations were done before the session was reset", done)
	wantSameKeys(t, p)
	wantNoLoss(t, "ping while sessions were reset", ping.Stop())
}
