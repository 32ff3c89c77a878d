package system

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/e2e/lab"
)

// Debian 13 has a newer systemd. Its tunnel leads to a Debian 12 host.
func TestDebian13InstallsStartsAndRestarts(t *testing.T) {
	t.Parallel()
	p := newPair(t, "bookworm", "trixie")
	wantOutput(t, p.beta, "active", "systemctl", "is-active", unit)
	p.join()
	p.awaitUp()
	p.wantPing()
	wantHardened(t, p.beta)
	l := p.start()
	restart(t, p, p.beta)
	l.wantNothingLost("restart on Debian 13")
	p.beta.Run("systemctl", "stop", unit)
	p.beta.Run("systemctl", "start", unit)
	p.awaitUp()
	p.wantPing()
	wantOutput(t, p.beta, "running", "systemctl", "is-system-running")
}

func TestServiceIsHardenedAndItsUnitsAreRight(t *testing.T) {
	t.Parallel()
	p := newPair(t, "bookworm", "bookworm")
	wantHardened(t, p.alpha)
	wantOutput(t, p.alpha, "", "systemd-analyze", "verify", "--man=no", unit, "tund.socket")
	p.join()
	p.awaitUp()
	status := p.alpha.Show("StatusText")
	t.Logf("status text: %s", status)
	if !strings.Contains(status, "1 peer") || !strings.Contains(status, "1 up") {
		t.Errorf("status text %q does not tell of the peer", status)
	}
	wantJournalFields(t, p)
	wantSandbox(t, p.alpha)
}

// wantHardened fails the test if systemd finds the service exposed to more than 2.0.
func wantHardened(t *testing.T, m *Machine) {
	t.Helper()
	r := m.Try("systemd-analyze", "security", "--no-pager", "--threshold=20", unit)
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	t.Logf("%s: %s", m.Name, lines[len(lines)-1])
	if r.Code != 0 {
		t.Errorf("%s: systemd-analyze security: exit %d: %s%s", m.Name, r.Code, r.Stdout, r.Stderr)
	}
}

// wantJournalFields fails the test unless the journal can be asked for what tund says of a
// peer, and who asked for something.
func wantJournalFields(t *testing.T, p *pair) {
	t.Helper()
	p.alpha.Run("tunctl", "rotate-key", "beta")
	established := p.alpha.Journal("PEER=beta", "EVENT=session established")
	if len(established) == 0 {
		t.Fatal("no entry with PEER=beta and EVENT=session established")
	}
	for field, want := range map[string]string{
		"PRIORITY": "6", "_SYSTEMD_UNIT": unit, "SYSLOG_IDENTIFIER": "tund",
	} {
		if got := established[0][field]; got != want {
			t.Errorf("field %s is %v, want %s", field, got, want)
		}
	}
	if endpoint, _ := established[0]["ENDPOINT"].(string); !strings.HasPrefix(endpoint, p.link.Addr(p.beta.Node, 4).String()) {
		t.Errorf("field ENDPOINT is %q", endpoint)
	}
	if len(p.alpha.Journal("ACTOR_UID=0", "PATH=/v1/peers/beta/rotate-key")) != 1 {
		t.Error("no entry with ACTOR_UID=0 for the rotation")
	}
}

// wantSandbox fails the test unless the data child, under the hardened unit, could still
// lock itself in.
func wantSandbox(t *testing.T, m *Machine) {
	t.Helper()
	status := m.Run("cat", "/proc/"+m.Run("pgrep", "-u", "tund", "-P", m.Show("MainPID"))+"/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("%s: the child's status lacks %q:\n%s", m.Name, want, status)
		}
	}
	// The kernel of this machine is the machines' too.
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno == 0 {
		wantOutput(t, m, "", "sh", "-c", "journalctl --quiet -o cat -u tund | grep -F 'sandbox is not whole' || true")
	}
}

// systemd holds the control socket and the port, and starts tund at the first use of
// either.
func TestSocketActivationStartsTheService(t *testing.T) {
	t.Parallel()
	p := upPair(t)
	p.alpha.Run("systemctl", "stop", unit)
	p.alpha.Run("systemctl", "start", "tund.socket")
	// Beta keeps dialling.
	lab.Until(t, lab.Patience, "beta's dialling starts alpha's tund", p.alpha.Active)
	p.awaitUp()
	p.wantPing()
	p.beta.Run("systemctl", "stop", unit)
	p.beta.Run("systemctl", "start", "tund.socket")
	wantOutput(t, p.beta, "inactive", "sh", "-c", "systemctl is-active tund.service || true")
	p.beta.Run("tunctl", "status")
	wantOutput(t, p.beta, "active", "systemctl", "is-active", unit)
	p.awaitUp()
	p.wantPing()
}
