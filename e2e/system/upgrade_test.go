package system

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// An administrator who is logged in through the tunnel upgrades the host at its other end.
func TestUpgradeThroughTheTunnelItself(t *testing.T) {
	t.Parallel()
	p := upPair(t)
	p.step("log in", func() { admit(p.alpha, p.beta) })
	session := p.alpha.LogIn(betaInner)
	p.alpha.Put(packageFile(t, newer), "/var/tmp/newer.deb")
	p.alpha.Put(packageFile(t, older), "/var/tmp/older.deb")
	l := p.start()
	p.step("copy the packages", func() {
		for _, version := range []string{older, newer} {
			p.alpha.Put(packageFile(t, version), "/var/tmp/"+packageName(version))
			p.alpha.Run("scp", "-q", "-o", "BatchMode=yes", "/var/tmp/"+packageName(version), "root@"+betaInner+":/var/tmp/")
		}
	})
	for _, version := range []string{newer, older} {
		p.step("go to "+version, func() { exchange(p, session, version) })
	}
	know(t, p.alpha, newer)
	p.step("do not upgrade with a mistake", func() { wantNoUpgrade(p) })
	p.step("upgrade the near end", func() {
		p.alpha.Run("apt-get", "-y", "upgrade")
		session.Run(lab.Patience, "true")
		wantVersion(t, p.alpha, newer)
		wantResumed(t, p.alpha)
	})
	l.wantNothingLost("upgrades and downgrade")
}

// wantNoUpgrade tries an upgrade after which tund would not start any more: the tunnel is
// worth more.
func wantNoUpgrade(p *pair) {
	p.t.Helper()
	before, text := p.alpha.MainPID(), p.alpha.Read(config)
	p.alpha.Edit(config, text+"nonsense = 1\n")
	r := p.alpha.Try("apt-get", "-y", "upgrade")
	for _, want := range []string{"nonsense", "Mend the configuration first"} {
		if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, want) {
			p.t.Errorf("upgrade with a mistake: exit %d, no %q: %s%s", r.Code, want, r.Stdout, r.Stderr)
		}
	}
	p.alpha.Edit(config, text)
	wantVersion(p.t, p.alpha, older)
	if p.alpha.MainPID() != before {
		p.t.Error("alpha's tund was restarted")
	}
}

// exchange installs a package on beta, through the tunnel that it is about.
func exchange(p *pair, session *Session, version string) {
	p.t.Helper()
	before := p.beta.MainPID()
	session.Run(5*time.Minute, "DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall --allow-downgrades /var/tmp/"+packageName(version))
	session.Run(lab.Patience, "tunctl")
	wantVersion(p.t, p.beta, version)
	if p.beta.MainPID() == before {
		p.t.Errorf("beta's tund was not restarted")
	}
	p.awaitUp()
	wantResumed(p.t, p.beta)
}

// admit lets root of one machine log in on another.
func admit(from, to *Machine) {
	from.Shell("ssh-keygen -q -t ed25519 -N '' -f ~root/.ssh/id_ed25519")
	to.RunInput(from.Shell("cat ~root/.ssh/id_ed25519.pub"), "sh", "-ec",
		"mkdir -p -m 700 ~root/.ssh; cat >~root/.ssh/authorized_keys; ssh-keygen -A; systemctl start ssh")
}

// wantVersion fails the test unless a machine's running tund is of a version.
func wantVersion(t *testing.T, m *Machine, want string) {
	t.Helper()
	if got := m.Status().Node.Version; got != want {
		t.Errorf("%s: tund says it is %s, want %s", m.Name, got, want)
	}
}

// packageFile returns the path of a version's package.
func packageFile(t *testing.T, version string) string {
	t.Helper()
	return filepath.Join(repositories(t), newer, "pool", "main", "t", "tund", packageName(version))
}
