package system

import "testing"

func TestPlannedRestartsLoseNothing(t *testing.T) {
	t.Parallel()
	p := upPair(t)
	l := p.start()
	for i := range 20 {
		restart(t, p, []*Machine{p.alpha, p.beta}[i%2])
	}
	l.wantNothingLost("20 restarts")
}

// Without systemd's doing tund replaces itself, under the same process id.
func TestRestartByTunctlLosesNothing(t *testing.T) {
	t.Parallel()
	p := upPair(t)
	l := p.start()
	for _, m := range []*Machine{p.alpha, p.beta} {
		pid := m.MainPID()
		m.Run("tunctl", "restart")
		p.awaitUp()
		wantResumed(t, m)
		if got := m.MainPID(); got != pid {
			t.Errorf("%s: main process is %d, was %d", m.Name, got, pid)
		}
		wantOutput(t, m, "active", "systemctl", "is-active", unit)
	}
	restart(t, p, p.alpha)
	l.wantNothingLost("tunctl restart")
}

// restart restarts tund on one machine of a pair and waits until both are as they were.
func restart(t *testing.T, p *pair, m *Machine) {
	t.Helper()
	before := m.MainPID()
	m.Run("systemctl", "restart", unit)
	if m.MainPID() == before {
		t.Fatalf("%s is the same process after its restart", m.Name)
	}
	p.awaitUp()
	wantResumed(t, m)
}

// Restarts one after the other, without waiting for anything but systemctl.
func TestHastyRestartsLoseNothing(t *testing.T) {
	t.Parallel()
	p := upPair(t)
	l := p.start()
	for range 10 {
		p.alpha.Run("systemctl", "restart", unit)
		p.beta.Run("systemctl", "restart", unit)
	}
	p.awaitUp()
	l.wantNothingLost("hasty restarts")
}
