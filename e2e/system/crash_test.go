package system

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

func TestTrafficIsBackAfterAKill(t *testing.T) {
	t.Parallel()
	p := upPair(t)
	for _, m := range []*Machine{p.alpha, p.beta} {
		device := map[string]string{"alpha": "tun-beta", "beta": "tun-alpha"}[m.Name]
		identity := identityOf(m, device)
		talk := p.beta.Converse(p.alpha.Node, lab.Addr(alphaInner))
		kill(p, m)
		if err := talk.Say(time.Minute); err != nil {
			t.Errorf("kill of %s: TCP connection: %v", m.Name, err)
		}
		if got := identityOf(m, device); got != identity {
			t.Errorf("kill of %s: the device is now\n%s\nwas\n%s", m.Name, got, identity)
		}
	}
}

// kill kills a machine's tund under pings, which must be answered again.
func kill(p *pair, m *Machine) {
	t := p.t
	t.Helper()
	out, back := p.alpha.StartPing(betaInner), p.beta.StartPing(alphaInner)
	before := m.MainPID()
	m.Signal("KILL")
	lab.Until(t, lab.Patience, m.Name+" has another main process", func() bool {
		pid := m.MainPID()
		return pid != 0 && pid != before
	})
	p.awaitUp()
	for name, r := range map[string]lab.PingResult{"alpha to beta": out.Stop(), "beta to alpha": back.Stop()} {
		t.Logf("kill of %s: ping, %s: %v", m.Name, name, r)
	}
	p.wantPing()
}

// identityOf is all of a device that outlives tund: its number, addresses and routes.
func identityOf(m *Machine, device string) string {
	lines := []string{strconv.Itoa(m.Index(device))}
	for _, what := range []string{"addr", "route"} {
		for line := range strings.Lines(m.IP("-oneline", what, "show", "dev", device)) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// systemd ends a service that does not answer, and starts it again.
func TestWatchdogEndsAHungService(t *testing.T) {
	t.Parallel()
	p := upPair(t)
	before := p.beta.MainPID()
	p.beta.Signal("STOP")
	start := time.Now()
	lab.Until(t, 2*time.Minute, "beta has another main process", func() bool {
		pid := p.beta.MainPID()
		return pid != 0 && pid != before
	})
	t.Logf("another one runs after %v", time.Since(start).Round(time.Millisecond))
	p.beta.AwaitActive(lab.Patience)
	p.awaitUp()
	p.wantPing()
	if restarts := p.beta.Show("NRestarts"); restarts != "1" {
		t.Errorf("%s restarts, want 1", restarts)
	}
	p.beta.Shell("journalctl --quiet -o cat -u tund | grep -F 'Watchdog timeout'")
}
