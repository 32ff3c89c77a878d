package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tund/e2e/lab"
)

// Restarts of one node of a pair (see tunnel_test.go), with a stand-in for the service
// manager, which keeps descriptors from one tund to the next, or without one.
//
//	        manager: d1 u1 state
//	           │
//	alpha, alpha, alpha … ══════ beta

// managedPair is a pair whose alpha has a service manager that keeps descriptors.
func managedPair(t *testing.T) (*lab.Pair, *lab.Manager) {
	t.Helper()
	p := newPair(t, lab.PairOptions{Extra: []string{`routes = ["10.78.0.0/16"]`}})
	m := p.Alpha.Manage(0)
	m.Keep()
	p.Up()
	return p, m
}

// wantKept fails the test unless the manager comes to keep just what has these names, of a
// tund that runs.
func wantKept(t *testing.T, m *lab.Manager, names ...string) {
	t.Helper()
	lab.Until(t, lab.Patience, fmt.Sprintf("the manager keeps %v", names), func() bool { return slices.Equal(m.Kept(), names) })
}

// identity is all of a device that must outlive a restart. That the kernel still looks
// for another host with its own link-local address is no part of it.
func identity(n *lab.Node, device string) string {
	var lines []string
	for _, what := range []string{"addr", "route"} {
		for line := range strings.Lines(n.IP("-oneline", what, "show", "dev", device)) {
			lines = append(lines, strings.ReplaceAll(strings.TrimSpace(line), " tentative", ""))
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d: %s", n.Index(device), strings.Join(lines, "\n"))
}

// talk keeps a TCP connection through the tunnel busy. The function returned ends it and
// tells whether it has lived.
func talk(t *testing.T, p *lab.Pair) (stop func()) {
	t.Helper()
	conversation := p.Alpha.Converse(p.Beta, lab.Addr(lab.BetaInner4))
	end, done := make(chan struct{}), make(chan error, 1)
	go func() { // ends with stop
		for {
			select {
			case <-end:
				done <- nil
				return
			default:
			}
			if err := conversation.Say(2 * lab.Patience); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() {
		close(end)
		if err := <-done; err != nil {
			t.Errorf("the TCP connection has broken: %v", err)
		}
	}
}

// wantTakenOver fails the test unless alpha goes on with the keys of the tund before.
func wantTakenOver(t *testing.T, n *lab.Node, round int) {
	t.Helper()
	if took := n.WaitTakeover("beta", lab.Patience); took == nil || took.Result != "resumed" {
		t.Errorf("round %d: taken over: %+v", round, took)
	} else {
		t.Logf("round %d: packets waited for %.0f ms", round, took.GapMS)
	}
}

func TestRestartsByTheServiceManagerLoseNothing(t *testing.T) {
	t.Parallel()
	const restarts = 10
	p, m := managedPair(t)
	before, index := identity(p.Alpha, p.AlphaDevice), p.Alpha.Index(p.AlphaDevice)
	ping, stopTalk := p.Alpha.StartPing(lab.BetaInner4), talk(t, p)
	for round := range restarts {
		if code, _ := p.Alpha.Stop(); code != 0 {
			t.Errorf("round %d: tund ended with %d", round, code)
		}
		if got := p.Alpha.Index(p.AlphaDevice); got != index { // all of the rest would take too long here
			t.Errorf("round %d: between two tunds the device has index %d, want %d", round, got, index)
		}
		if got := m.Kept(); !slices.Equal(got, []string{"d1", "state", "u1"}) {
			t.Errorf("round %d: in the store: %v", round, got)
		}
		p.Alpha.Start()
		p.WaitUp()
		wantTakenOver(t, p.Alpha, round)
		wantKept(t, m, "d1", "u1")
	}
	stopTalk()
	wantNoLoss(t, "ping over restarts by the manager", ping.Stop())
	if got := identity(p.Alpha, p.AlphaDevice); got != before {
		t.Errorf("afterwards: %s\nwant %s", got, before)
	}
	rotate(t, p.Alpha, "rotate-key", "beta")
	rotate(t, p.Beta, "rotate-iv", "alpha")
}

// Both ends restart at the same moments, in the midst of rotations: whatever an exchange has
// come to, the keys of both sides fit together.
func TestRestartsOfBothEndsInTheMidstOfRotationsLoseNothing(t *testing.T) {
	t.Parallel()
	const rounds = 8
	p := upPair(t, lab.PairOptions{BothDial: true})
	ping, stopTalk := p.Alpha.StartPing(lab.BetaInner4), talk(t, p)
	for round := range rounds {
		var wg sync.WaitGroup
		wg.Go(func() { p.Beta.Ctl([]string{"rotate-key", "rotate-iv"}[round%2], "alpha") }) // it may fail
		time.Sleep(time.Duration(round) * 3 * time.Millisecond)
		for _, n := range []*lab.Node{p.Alpha, p.Beta}[:1+round%2] {
			wg.Go(func() {
				if r := n.Ctl("restart"); r.Code != 0 {
					t.Errorf("round %d: restart of %s: exit %d: %s%s", round, n.Name, r.Code, r.Stdout, r.Stderr)
				}
			})
		}
		wg.Wait()
		p.WaitUp()
	}
	stopTalk()
	wantNoLoss(t, "ping over restarts of both ends", ping.Stop())
	rotate(t, p.Alpha, "rotate-key", "beta")
}

// restartResult is what tunctl restart --json prints.
type restartResult struct {
	Result string  `json:"result"`
	MS     int64   `json:"ms"`
	GapMS  float64 `json:"gap_ms"`
	From   struct {
		Instance string `json:"instance"`
	} `json:"from"`
	To struct {
		Instance string `json:"instance"`
	} `json:"to"`
	Peers []struct {
		Name   string `json:"name"`
		Result string `json:"result"`
	} `json:"peers"`
}

func TestTunctlRestartLosesNothing(t *testing.T) {
	t.Parallel()
	const restarts = 10
	p := upPair(t, lab.PairOptions{Mode: "tap"})
	before, pid := identity(p.Alpha, p.AlphaDevice), p.Alpha.PID()
	ping, stopTalk := p.Alpha.StartPing(lab.BetaInner4), talk(t, p)
	for round := range restarts {
		var r restartResult
		code := p.Alpha.CtlJSON(&r, "restart")
		if code != 0 || r.Result != "restarted" || r.From.Instance == r.To.Instance || len(r.Peers) != 1 || r.Peers[0].Result != "resumed" {
			t.Fatalf("round %d: exit %d, %+v", round, code, r)
		}
		t.Logf("round %d: %d ms, packets waited for %.0f ms", round, r.MS, r.GapMS)
		p.WaitUp()
	}
	stopTalk()
	wantNoLoss(t, "ping over tunctl restart", ping.Stop())
	if got := identity(p.Alpha, p.AlphaDevice); got != before || p.Alpha.PID() != pid {
		t.Errorf("afterwards: %s\nwant %s", got, before)
	}
	rotate(t, p.Alpha, "rotate-key", "beta")
}

func TestRestartIntoABrokenConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.AlphaTable.Node = append(p.AlphaTable.Node, `reload = "manual"`)
	p.Alpha.Configure(p.AlphaTable)
	p.Up()
	ping := p.Alpha.StartPing(lab.BetaInner4)
	instance := p.Alpha.Status().Node.Instance
	p.Alpha.WriteFile("tund.toml", "[node]\nprivate_key_file = 7\n")
	if r := p.Alpha.Ctl("restart"); r.Code != 1 || !strings.Contains(r.Stderr, "private_key_file") {
		t.Errorf("restart: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if now := p.Alpha.Status().Node.Instance; now != instance {
		t.Error("another tund runs")
	}
	wantNoLoss(t, "ping over a refused restart", ping.Stop())
}

// The program runs when it is tried and cannot be executed a moment later: the old tund
// takes its own state back, and nothing is lost.
func TestRestartThatFailsAtTheLastStepIsTakenBack(t *testing.T) {
	t.Parallel()
	need(t)
	dir := t.TempDir()
	own := lab.Binaries{Tund: filepath.Join(dir, "tund"), Tunctl: programs.Tunctl}
	install(t, programs.Tund, own.Tund)
	p := lab.NewPair(t, own, lab.PairOptions{})
	p.Up()
	before, instance := identity(p.Alpha, p.AlphaDevice), p.Alpha.Status().Node.Instance
	ping, stopTalk := p.Alpha.StartPing(lab.BetaInner4), talk(t, p)
	for range 3 {
		shell := filepath.Join(dir, "sh")
		install(t, "/bin/sh", shell)
		install(t, "", own.Tund, "#!", shell, "\nrm ", shell, "\n")
		if r := p.Alpha.Ctl("restart"); r.Code != 1 || !strings.Contains(r.Stderr, "the old tund goes on: execute "+own.Tund+": no such file") {
			t.Errorf("restart: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		p.WaitUp()
		wantTakenOver(t, p.Alpha, 0)
	}
	stopTalk()
	wantNoLoss(t, "ping over a restart that failed", ping.Stop())
	if now := p.Alpha.Status().Node.Instance; now != instance || identity(p.Alpha, p.AlphaDevice) != before {
		t.Errorf("another tund runs, or with another device:\n%s\nwant %s", identity(p.Alpha, p.AlphaDevice), before)
	}
	rotate(t, p.Alpha, "rotate-key", "beta")
}

// A program that ends before it has taken anything over, by a signal or its own mistake,
// loses nothing where a service manager starts another one.
func TestProgramThatEndsAtOnceLosesNothing(t *testing.T) {
	t.Parallel()
	need(t)
	own := lab.Binaries{Tund: filepath.Join(t.TempDir(), "tund"), Tunctl: programs.Tunctl}
	install(t, programs.Tund, own.Tund)
	p := lab.NewPair(t, own, lab.PairOptions{})
	m := p.Alpha.Manage(0)
	m.Keep()
	p.Up()
	before := identity(p.Alpha, p.AlphaDevice)
	ping, stopTalk := p.Alpha.StartPing(lab.BetaInner4), talk(t, p)
	for round, end := range []string{"kill -TERM $$", "kill -KILL $$", "exit 1"} {
		install(t, "", own.Tund, "#!/bin/sh\n[ \"$1\" = check ] || ", end, "\n")
		p.Alpha.Ctl("restart", "--timeout", "500ms") // nobody answers
		p.Alpha.Wait(lab.Patience)
		if got := m.Kept(); !slices.Equal(got, []string{"d1", "state", "u1"}) {
			t.Errorf("%s: in the store: %v", end, got)
		}
		install(t, programs.Tund, own.Tund)
		p.Alpha.Start()
		p.WaitUp()
		wantTakenOver(t, p.Alpha, round)
		wantKept(t, m, "d1", "u1")
	}
	stopTalk()
	wantNoLoss(t, "ping over programs that end at once", ping.Stop())
	if got := identity(p.Alpha, p.AlphaDevice); got != before {
		t.Errorf("afterwards: %s\nwant %s", got, before)
	}
	rotate(t, p.Alpha, "rotate-key", "beta")
}

// install puts a program in the place of another, as a package manager does: a copy of one
// there is, or these lines.
func install(t *testing.T, from, to string, lines ...string) {
	t.Helper()
	content := []byte(strings.Join(lines, ""))
	if from != "" {
		read, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		content = read
	}
	if err := os.WriteFile(to+".new", content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}

func TestKilledTundComesBackWithItsDeviceAndANewEpoch(t *testing.T) {
	t.Parallel()
	p, _ := managedPair(t)
	before := identity(p.Alpha, p.AlphaDevice)
	p.Alpha.Kill()
	if got := identity(p.Alpha, p.AlphaDevice); got != before {
		t.Errorf("between two tunds: %s\nwant %s", got, before)
	}
	p.Alpha.Start()
	p.WaitUp()
	capture := p.Alpha.Capture(p.Link.Interface(p.Alpha))
	for range 3 {
		ping := p.Alpha.StartPing(lab.BetaInner4)
		death := time.Now()
		p.Alpha.Kill()
		p.Alpha.Start()
		p.WaitUp()
		t.Logf("ping over a killed tund: %v", ping.Stop())
		if got := identity(p.Alpha, p.AlphaDevice); got != before {
			t.Errorf("afterwards: %s\nwant %s", got, before)
		}
		fromAlpha, _ := streams(p, capture.Seen())
		fromAlpha.wantFresh(t, "alpha", death)
	}
	fromAlpha, fromBeta := streams(p, capture.Stop())
	fromAlpha.wantUnique(t, "alpha")
	fromBeta.wantUnique(t, "beta")
}

// Whatever a tund was doing when it was killed, what it left is used once: no packet
// number comes twice with different bytes, and the tunnel is back.
func TestKillsAtAnyMomentOfARestartRepeatNoNonce(t *testing.T) {
	t.Parallel()
	const rounds = 18
	p, m := managedPair(t)
	capture := p.Alpha.Capture(p.Link.Interface(p.Alpha))
	ping := p.Alpha.StartPing(lab.BetaInner4)
	outcomes := map[string]int{}
	for round := range rounds {
		var asked sync.WaitGroup
		switch round % 3 {
		case 0: // while it hands over
			p.Alpha.Signal(syscall.SIGTERM)
			time.Sleep(rand.N(150 * time.Millisecond))
		case 1: // while it takes over
			p.Alpha.Stop()
			p.Alpha.Launch()
			time.Sleep(rand.N(150 * time.Millisecond))
		default: // while it makes room for its program anew
			asked.Go(func() { p.Alpha.Ctl("restart", "--timeout", "1s") }) // it may fail
			time.Sleep(rand.N(200 * time.Millisecond))
		}
		left := strings.Join(m.Kept(), " ")
		p.Alpha.KillIfRunning()
		p.Alpha.Start()
		asked.Wait()
		p.WaitUp()
		took := p.Alpha.WaitTakeover("beta", lab.Patience)
		if took == nil {
			t.Fatalf("round %d: the tunnel was not taken over", round)
		}
		outcomes[took.Result]++
		t.Logf("round %d: killed with %s in the store: %s %s", round, left, took.Result, took.Reason)
	}
	t.Logf("outcomes: %v; ping: %v", outcomes, ping.Stop())
	fromAlpha, fromBeta := streams(p, capture.Stop())
	fromAlpha.wantUnique(t, "alpha")
	fromBeta.wantUnique(t, "beta")
}

// A restart into a configuration that is refused keeps device and keys until it is mended.
func TestRefusedConfigurationLeavesWhatWasHandedOver(t *testing.T) {
	t.Parallel()
	p, m := managedPair(t)
	before := identity(p.Alpha, p.AlphaDevice)
	p.Alpha.Stop()
	p.Alpha.WriteFile("tund.toml", "nonsense\n")
	p.Alpha.Launch()
	if code, took := p.Alpha.Wait(lab.Patience); code != 1 || took < 1500*time.Millisecond {
		t.Errorf("exit %d after %v", code, took)
	}
	if got := m.Kept(); !slices.Equal(got, []string{"d1", "state", "u1"}) {
		t.Errorf("in the store: %v", got)
	}
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.Start()
	p.WaitUp()
	wantTakenOver(t, p.Alpha, 0)
	if got := identity(p.Alpha, p.AlphaDevice); got != before {
		t.Errorf("afterwards: %s\nwant %s", got, before)
	}
}

func TestAnnouncedStopTellsThePeerAndTakesTheDeviceAway(t *testing.T) {
	t.Parallel()
	p, m := managedPair(t)
	p.Alpha.Post(t.Context(), "/v1/stop-kind", `{"kind":"stop"}`, http.StatusOK)
	if code, _ := p.Alpha.Stop(); code != 0 {
		t.Errorf("tund ended with %d", code)
	}
	if got := m.Kept(); len(got) != 0 {
		t.Errorf("left in the store: %v", got)
	}
	if p.Alpha.Index(p.AlphaDevice) != 0 {
		t.Error("the device is there still")
	}
	peer := p.Beta.WaitPeer("alpha", lab.Patience, "it was told", func(s lab.PeerStatus) bool { return s.State != "up" })
	if !strings.Contains(p.Beta.Log(), "shutdown received") {
		t.Errorf("beta was not told: %+v", peer)
	}
	p.Alpha.Start()
	p.WaitUp()
	if took := p.Alpha.MustPeer("beta").Takeover; took != nil {
		t.Errorf("taken over: %+v", took)
	}
}

// What was changed while no tund ran is in force afterwards, and what can't be taken over
// is begun anew.
func TestRestartTakesOverWhatTheConfigurationStillHas(t *testing.T) {
	t.Parallel()
	p, m := managedPair(t)
	p.Alpha.Stop()
	p.AlphaTable.Set("beta", "addresses", fmt.Sprintf("[\"%s/30\", \"10.79.0.1/24\"]", lab.AlphaInner4))
	p.AlphaTable.Unset("beta", "routes")
	p.Alpha.Configure(p.AlphaTable)
	ping := p.Beta.StartPingLater(lab.AlphaInner4)
	p.Alpha.Start()
	p.WaitUp()
	wantTakenOver(t, p.Alpha, 0)
	lab.Until(t, lab.Patience, "the ping is answered", func() bool { return ping.Replies() > 20 })
	wantNoLoss(t, "ping over a changed configuration", ping.Stop())
	addresses := p.Alpha.IP("addr", "show", "dev", p.AlphaDevice)
	for text, want := range map[string]bool{"10.79.0.1/24": true, lab.AlphaInner6: false, lab.AlphaInner4: true} {
		if strings.Contains(addresses, text) != want {
			t.Errorf("address %s: want %t:\n%s", text, want, addresses)
		}
	}
	if routes := p.Alpha.IP("route", "show", "dev", p.AlphaDevice); strings.Contains(routes, "10.78.0.0/16") {
		t.Errorf("the route is there still:\n%s", routes)
	}
	index := p.Alpha.Index(p.AlphaDevice)
	p.Alpha.Stop()
	p.AlphaTable.Set("beta", "queue", "99")
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.Start()
	p.WaitUp()
	if took := p.Alpha.WaitTakeover("beta", lab.Patience); took == nil || took.Result != "fresh" || !strings.Contains(took.Reason, "queue") {
		t.Errorf("taken over with another queue: %+v", took)
	}
	if now := p.Alpha.Index(p.AlphaDevice); now == index || now == 0 {
		t.Errorf("the device with another queue has index %d, had %d", now, index)
	}
	p.Alpha.Stop()
	p.AlphaTable.Set("beta", "interface", `"another"`)
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.Start()
	p.WaitUp()
	if p.Alpha.Index(p.AlphaDevice) != 0 || p.Alpha.Index("another") == 0 {
		t.Errorf("devices: %v", p.Alpha.Interfaces())
	}
	wantKept(t, m, "d3", "u3")
	wantWords(t, "log", p.Alpha.Log(), "tunnel discarded")
	p.Alpha.Stop()
	p.AlphaTable.Set("beta", "enabled", "false")
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.Start()
	within(t, "the device of a disabled peer is gone", func() bool { return p.Alpha.Index("another") == 0 })
	wantKept(t, m)
}
