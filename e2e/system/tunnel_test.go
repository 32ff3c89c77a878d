package system

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"tund/e2e/lab"
)

const (
	// config is the configuration that the package installs.
	config = "/etc/tund/tund.toml"

	alphaInner = "10.77.0.1"
	betaInner  = "10.77.0.2"

	// loadRate is that of the TCP stream beside a ping, in bytes a second: it keeps the
	// tunnel busy and leaves the processors to what is measured.
	loadRate = 20 << 20
)

// pair is two machines with a tunnel between their installed packages. Beta dials alpha.
type pair struct {
	*Fleet
	alpha, beta *Machine
	link        *lab.Link
}

// newPair boots two machines, each of its suite, and installs the package on both.
func newPair(t *testing.T, suiteA, suiteB string) *pair {
	t.Helper()
	p := &pair{Fleet: NewFleet(t)}
	p.alpha, p.beta, p.link = p.Pair(suiteA, suiteB)
	p.each(func(m *Machine) {
		know(t, m, older)
		m.Run("apt-get", "install", "-y", "tund")
	})
	return p
}

// upPair returns a pair of Debian 12 machines whose tunnel is up.
func upPair(t *testing.T) *pair {
	t.Helper()
	p := newPair(t, "bookworm", "bookworm")
	p.join()
	p.awaitUp()
	return p
}

// each does something on both machines at once.
func (p *pair) each(do func(*Machine)) {
	var wg sync.WaitGroup
	for _, m := range []*Machine{p.alpha, p.beta} {
		wg.Go(func() { do(m) })
	}
	wg.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
}

// awaitUp waits until both sides show the tunnel as up; either may just be starting.
func (p *pair) awaitUp() {
	p.t.Helper()
	alpha, beta := "", ""
	done := false
	defer func() {
		if !done {
			p.t.Logf("alpha shows %q, beta %q", alpha, beta)
		}
	}()
	lab.Until(p.t, lab.Patience, "both sides show the tunnel as up", func() bool {
		alpha, beta = state(p.alpha, "beta"), state(p.beta, "alpha")
		return alpha == "up" && beta == "up"
	})
	done = true
}

// state is what a machine's tund shows of a peer, or what it says instead.
func state(m *Machine, peer string) string {
	status, err := m.TryStatus()
	if err != nil {
		return err.Error()
	}
	for _, p := range status.Peers {
		if p.Name == peer {
			return p.State
		}
	}
	return "no such peer"
}

// join makes the machines each other's peers: beta's key goes into alpha's configuration,
// and what tunctl prints there into beta's.
func (p *pair) join() {
	p.t.Helper()
	p.alpha.Edit(config, p.alpha.Read(config)+fmt.Sprintf(
		"\n[peer.beta]\npublic_key = %q\naddresses = [\"%s/30\"]\n", publicKey(p.beta), alphaInner))
	invitation := p.alpha.Run("tunctl", "invite", "beta", "--endpoint", p.link.Addr(p.alpha.Node, 4).String())
	p.beta.RunInput(invitation+"\n", "sh", "-c", "cat >/var/tmp/alpha.toml")
	p.beta.Run("tunctl", "join", "--yes", "/var/tmp/alpha.toml")
}

// publicKey returns a machine's public key as its administrator asks for it.
func publicKey(m *Machine) string { return m.Shell("tunctl pubkey </dev/null") }

// step runs one part of a long test and logs how long it took; steps rely on the ones
// before, so a failed one is the last.
func (f *Fleet) step(name string, do func()) {
	f.t.Helper()
	start := time.Now()
	f.t.Logf("=== %s", name)
	do()
	f.t.Logf("    %s: %v", name, time.Since(start).Round(time.Millisecond))
	if f.t.Failed() {
		f.t.Fatalf("%s failed", name)
	}
}

// load is what passes through a tunnel while something happens to it: pings in both
// directions and a TCP stream.
type load struct {
	p      *pair
	out    *lab.Ping
	back   *lab.Ping
	stream *lab.Stream
}

// start begins the load.
func (p *pair) start() *load {
	p.t.Helper()
	return &load{
		p:      p,
		out:    p.alpha.StartPing(betaInner),
		back:   p.beta.StartPing(alphaInner),
		stream: p.beta.StartStream(p.alpha.Node, lab.Addr(alphaInner), loadRate),
	}
}

// wantNothingLost ends the load, of which no packet may have been lost.
func (l *load) wantNothingLost(what string) {
	t := l.p.t
	t.Helper()
	stream := l.stream.Stop(lab.Patience)
	t.Logf("%s: stream: %v", what, stream)
	for name, ping := range map[string]*lab.Ping{"alpha to beta": l.out, "beta to alpha": l.back} {
		r := ping.Stop()
		t.Logf("%s: ping, %s: %v", what, name, r)
		if r.Lost != 0 || r.Received == 0 {
			t.Errorf("%s: ping, %s: %d of %d lost, want 0: %s", what, name, r.Lost, r.Sent, r.Notes)
			l.p.logDrops()
		}
	}
}

// wantResumed fails the test unless a machine's tund goes on with the keys of the one
// before.
func wantResumed(t *testing.T, m *Machine) {
	t.Helper()
	for _, peer := range m.Status().Peers {
		took := m.WaitTakeover(peer.Name, lab.Patience)
		if took == nil || took.Result != "resumed" {
			t.Errorf("%s: peer %s: taken over: %+v", m.Name, peer.Name, took)
		} else {
			t.Logf("%s: packets waited for %.0f ms", m.Name, took.GapMS)
		}
	}
}

// logDrops logs where packets were lost, as both sides and their kernels know it.
func (p *pair) logDrops() {
	for _, m := range []*Machine{p.alpha, p.beta} {
		status, err := m.TryStatus()
		p.t.Logf("%s: %+v %v", m.Name, status.Peers, err)
		p.t.Logf("%s: %s%s", m.Name, m.Try("ip", "-s", "link", "show").Stdout, m.Try("sh", "-c", "cat /proc/net/snmp | grep Udp; cat /proc/net/udp /proc/net/udp6").Stdout)
	}
}

// wantPing fails the test unless a few pings through the tunnel are answered.
func (p *pair) wantPing() {
	p.t.Helper()
	for name, r := range map[string]lab.PingResult{
		"alpha to beta": p.alpha.Ping(betaInner, 3), "beta to alpha": p.beta.Ping(alphaInner, 3),
	} {
		if r.Lost != 0 || r.Received == 0 {
			p.t.Errorf("ping, %s: %v: %s", name, r, r.Notes)
		}
	}
}
