package system

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// The package from its installation to its purge, by the commands of the manual.
func TestPackageFromInstallToPurge(t *testing.T) {
	t.Parallel()
	f := NewFleet(t)
	p := &pair{Fleet: f}
	p.alpha, p.beta, p.link = f.Pair("bookworm", "bookworm")
	var before []string
	f.step("know the repository", func() {
		p.each(func(m *Machine) { know(t, m, older) })
		before = files(p.beta)
	})
	f.step("install", func() { p.each(func(m *Machine) { installed(t, m) }) })
	f.step("exchange keys", func() { joined(p) })
	f.step("ping", func() { p.awaitUp(); p.wantPing() })
	f.step("rotate the key", func() { rotated(t, p) })
	f.step("edit the file", func() { edited(t, p) })
	f.step("reload", func() { reloaded(t, p) })
	f.step("stop", func() { stopped(t, p) })
	f.step("start", func() { p.beta.Run("systemctl", "start", unit); p.awaitUp(); p.wantPing() })
	f.step("remove", func() { removed(t, p.beta) })
	f.step("install again", func() { p.beta.Run("apt-get", "install", "-y", "tund"); p.awaitUp(); p.wantPing() })
	f.step("purge", func() { purged(t, p.beta, before) })
}

// installed installs the package and checks what it made: an idle service that runs.
func installed(t *testing.T, m *Machine) {
	output := m.Run("apt", "install", "-y", "tund")
	if key := publicKey(m); !strings.Contains(output, key) {
		t.Errorf("%s: the installation does not show the public key %s:\n%s", m.Name, key, output)
	}
	wantOutput(t, m, "enabled", "systemctl", "is-enabled", unit)
	wantOutput(t, m, "active", "systemctl", "is-active", unit)
	wantOutput(t, m, "running", "systemctl", "is-system-running")
	wantOutput(t, m, "tund", "ps", "-o", "user=", "-p", m.Show("MainPID"))
	wantOutput(t, m, "600 tund", "stat", "-c", "%a %U", "/etc/tund/private.key")
	if version := m.Status().Node.Version; version != older {
		t.Errorf("%s: tund says it is %s, want %s", m.Name, version, older)
	}
	if peers := m.Status().Peers; len(peers) != 0 {
		t.Errorf("%s: peers after the installation: %v", m.Name, peers)
	}
}

// joined exchanges keys. From the installation to the first packet the second host needs
// no command but "tunctl join".
func joined(p *pair) {
	p.join()
	if r := p.beta.Try("ping", "-c", "1", "-w", "60", alphaInner); r.Code != 0 {
		p.t.Errorf("ping after the join: %s", r.Stdout)
	}
}

// rotated rotates the key as the manual says, with traffic in the tunnel.
func rotated(t *testing.T, p *pair) {
	l := p.start()
	epoch := p.beta.MustPeer("alpha").Epoch
	var r lab.Rotation
	if code := p.alpha.CtlJSON(&r, "rotate-key", "beta"); code != 0 || len(r.Results) != 1 || r.Results[0].Result != "done" {
		t.Errorf("rotate-key: exit %d: %+v", code, r)
	}
	if got := p.beta.MustPeer("alpha").Epoch; got <= epoch {
		t.Errorf("beta is at epoch %d, was at %d", got, epoch)
	}
	l.wantNothingLost("rotate-key")
}

// edited changes the file under the running service, which takes it up by itself.
func edited(t *testing.T, p *pair) {
	l := p.start()
	text := p.alpha.Read(config)
	p.alpha.Edit(config, addRoute(text, "10.20.0.0/16"))
	lab.Until(t, lab.Patience, "the route is there", func() bool { return p.alpha.Try("ip", "route", "show", "10.20.0.0/16").Stdout != "" })
	p.alpha.Edit(config, text+"nonsense = 1\n")
	lab.Until(t, lab.Patience, "the mistake is shown", func() bool { return strings.Contains(p.alpha.Status().Node.Config.Error, "nonsense") })
	p.alpha.Edit(config, text)
	lab.Until(t, lab.Patience, "the route is gone", func() bool { return p.alpha.Try("ip", "route", "show", "10.20.0.0/16").Stdout == "" })
	l.wantNothingLost("edits")
}

// reloaded has systemd reload the service, which is done when the command returns.
func reloaded(t *testing.T, p *pair) {
	l := p.start()
	text := strings.Replace(p.alpha.Read(config), "[node]\n", "[node]\nreload = \"manual\"\n", 1)
	pid := p.alpha.MainPID()
	p.alpha.Edit(config, text)
	p.alpha.Run("systemctl", "reload", unit)
	p.alpha.Edit(config, addRoute(text, "10.21.0.0/16"))
	p.alpha.Run("systemctl", "reload", unit)
	if p.alpha.Try("ip", "route", "show", "10.21.0.0/16").Stdout == "" {
		t.Error("no route after the reload")
	}
	p.alpha.Edit(config, "[node]\nnonsense = 1\n")
	if r := p.alpha.Try("systemctl", "reload", unit); r.Code == 0 {
		t.Error("the reload of a file with a mistake succeeds")
	}
	p.alpha.Edit(config, text)
	p.alpha.Run("systemctl", "reload", unit)
	wantOutput(t, p.alpha, "active", "systemctl", "is-active", unit)
	if got := p.alpha.MainPID(); got != pid {
		t.Errorf("reloads changed the main process from %d to %d", pid, got)
	}
	l.wantNothingLost("reloads")
}

// addRoute returns alpha's configuration with a route to its peer.
func addRoute(text, route string) string {
	return strings.Replace(text, "\n[peer.beta]\n", fmt.Sprintf("\n[peer.beta]\nroutes = [%q]\n", route), 1)
}

// stopped stops the service: the other side is told, and devices go.
func stopped(t *testing.T, p *pair) {
	start := time.Now()
	p.beta.Run("systemctl", "stop", unit)
	t.Logf("stop took %v", time.Since(start).Round(time.Millisecond))
	told := p.alpha.WaitPeer("beta", lab.Patience, "told of the end", func(s lab.PeerStatus) bool { return s.State != "up" })
	t.Logf("alpha says: %s, %q", told.State, told.LastError)
	if len(p.alpha.Journal("EVENT=shutdown received", "PEER=beta")) != 1 {
		t.Error("alpha was not told, but has found out")
	}
	if slices.Contains(p.beta.Interfaces(), "tun-alpha") {
		t.Error("the device is still there after the stop")
	}
	wantOutput(t, p.beta, "inactive", "sh", "-c", "systemctl is-active tund || true")
	wantOutput(t, p.beta, "", "systemctl", "--failed", "--plain", "--no-legend")
	wantOutput(t, p.beta, "", "sh", "-c", "pgrep -u tund || true")
}

// removed removes the package, which leaves what the administrator made.
func removed(t *testing.T, m *Machine) {
	m.Run("apt-get", "remove", "-y", "tund")
	wantOutput(t, m, "inactive", "sh", "-c", "systemctl is-active tund || true")
	wantOutput(t, m, "", "sh", "-c", "command -v tund tunctl || true")
	m.Run("test", "-s", "/etc/tund/private.key", "-a", "-s", config)
	if slices.Contains(m.Interfaces(), "tun-alpha") {
		t.Error("the device is still there after the package was removed")
	}
}

// purged purges the package: no file of it is left but, by policy, its user and groups.
func purged(t *testing.T, m *Machine, before []string) {
	m.Run("apt-get", "purge", "-y", "tund")
	after := files(m)
	for _, file := range after {
		if !slices.Contains(before, file) {
			t.Errorf("left after the purge: %s", file)
		}
	}
	for _, file := range before {
		if !slices.Contains(after, file) {
			t.Errorf("missing after the purge: %s", file)
		}
	}
	wantOutput(t, m, "running", "systemctl", "is-system-running")
	m.Run("getent", "passwd", "tund")
}

// files returns every file of a machine with its kind, mode, owner and target, but for
// those that change by themselves or, as the lists of users, by policy.
func files(m *Machine) []string {
	return strings.Split(m.Shell(`find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp \
		-o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd \
		-o -path /root \) -prune -o -printf '%p %y %m %u:%g %l\n' | grep -vE '^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-? '
		find /run -path /run/systemd -prune -o -path /run/log -prune -o -printf '%p %y %m %u:%g\n'`), "\n")
}

// wantOutput fails the test unless a command succeeds and prints just this.
func wantOutput(t *testing.T, m *Machine, want string, args ...string) {
	t.Helper()
	if r := m.Try(args...); r.Code != 0 || strings.TrimSpace(r.Stdout) != want {
		t.Errorf("%s: %s: exit %d, %q, want %q: %s", m.Name, strings.Join(args, " "), r.Code, strings.TrimSpace(r.Stdout), want, r.Stderr)
	}
}
