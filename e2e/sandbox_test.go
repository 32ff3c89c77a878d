package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/e2e/lab"
)

// walls are what confines a child, as status shows it.
var walls = []string{"no-new-privs", "landlock", "seccomp", "not-root"}

// A child in its sandbox does all that a tunnel may ask of it, and the kernel refuses it nothing.
func TestConfinedChildrenDoTheirWork(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"go", "ipsec-mb"} {
		for _, mode := range []string{"tun", "tap"} {
			t.Run(engine+" "+mode, func(t *testing.T) {
				t.Parallel()
				refused := kernelLog(t)
				p := newPair(t, lab.PairOptions{Mode: mode})
				p.AlphaTable.Node = []string{fmt.Sprintf("engine = %q", engine)}
				p.BetaTable.Node = p.AlphaTable.Node
				p.Alpha.Configure(p.AlphaTable)
				p.Beta.Configure(p.BetaTable)
				p.Up()
				if got := p.Alpha.MustPeer("beta").Engine; got != engine && got == fastest(t) {
					t.Skipf("this machine uses the engine %s", got)
				} else if got != engine {
					t.Errorf("the engine is %s", got)
				}
				children := []int{p.Alpha.MustPeer("beta").ChildPID, p.Beta.MustPeer("alpha").ChildPID}
				for _, command := range []string{"rotate-key", "rotate-iv", "rotate-key"} {
					wantStream(t, p.Alpha, p.Beta, lab.BetaInner4)
					wantStream(t, p.Beta, p.Alpha, lab.AlphaInner6)
					if r := p.Alpha.Ctl(command, "beta"); r.Code != 0 {
						t.Errorf("%s: exit %d: %s", command, r.Code, r.Stderr)
					}
				}
				wantPing(t, p.Alpha, lab.BetaInner4, "-s", "5972")
				for _, pid := range children {
					wantConfined(t, pid)
				}
				if got := p.Alpha.MustPeer("beta"); got.ChildPID != children[0] || got.Restarts != 0 || !slices.Equal(got.Sandbox, walls) {
					t.Errorf("status shows child %d, which was %d, %d restarts, sandbox %v", got.ChildPID, children[0], got.Restarts, got.Sandbox)
				}
				for _, n := range []*lab.Node{p.Alpha, p.Beta} {
					if code, _ := n.Stop(); code != 0 {
						t.Errorf("tund on %s ended with %d", n.Name, code)
					}
				}
				for _, line := range refused() {
					if slices.ContainsFunc(children, func(pid int) bool { return strings.Contains(line, fmt.Sprintf(" pid=%d ", pid)) }) {
						t.Errorf("the kernel refused: %s", line)
					}
				}
			})
		}
	}
}

// kernelLog returns what gives the kernel's lines about refused system calls since.
func kernelLog(t *testing.T) func() []string {
	t.Helper()
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("the kernel's log cannot be read: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	return func() []string {
		var lines []string
		line := make([]byte, 8192)
		for {
			n, err := unix.Read(fd, line)
			if err != nil && !errors.Is(err, unix.EPIPE) { // EPIPE: overwritten before it was read
				return lines
			}
			if s := string(line[:max(n, 0)]); strings.Contains(s, "type=1326") {
				lines = append(lines, s)
			}
		}
	}
}

// wantConfined fails the test unless the kernel filters every thread of a process.
func wantConfined(t *testing.T, pid int) {
	t.Helper()
	wantEveryThreadAlike(t, pid)
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*")
	if err != nil || len(tasks) < 3 {
		t.Fatalf("threads of %d: %v, %v", pid, tasks, err)
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			t.Fatal(err)
		}
		status := lab.ProcStatus(id)
		if filters, err := strconv.Atoi(status["Seccomp_filters"]); status["Seccomp"] != "2" || err != nil || filters < 2 {
			t.Errorf("thread %d of %d: Seccomp %q, filters %q", id, pid, status["Seccomp"], status["Seccomp_filters"])
		}
	}
}

// tund needs two capabilities and no other right of root's; its children, who are the same
// user, have none.
func TestTundRunsAsAnUnprivilegedUser(t *testing.T) {
	t.Parallel()
	const user, capabilities = 64111, 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE
	p := newPair(t, lab.PairOptions{Mode: "tap"})
	for _, n := range []*lab.Node{p.Alpha, p.Beta} {
		giveTo(t, n.Dir, user)
		n.Around = append(openTun(n), unprivileged(user)...)
	}
	p.Up()
	wantPing(t, p.Alpha, lab.BetaInner4)
	wantStream(t, p.Alpha, p.Beta, lab.BetaInner6)
	status := lab.ProcStatus(p.Alpha.PID())
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
		if got, err := strconv.ParseUint(status[set], 16, 64); err != nil || got != capabilities {
			t.Errorf("%s of tund is %s, want %x", set, status[set], capabilities)
		}
	}
	before := p.Alpha.MustPeer("beta")
	child := lab.ProcStatus(before.ChildPID)
	if child["Uid"] != status["Uid"] || !strings.HasPrefix(child["Uid"], strconv.Itoa(user)) {
		t.Errorf("tund runs as %s, its child as %s", status["Uid"], child["Uid"])
	}
	wantConfined(t, before.ChildPID)
	kill(t, before.ChildPID)
	p.Alpha.WaitPeer("beta", lab.Patience, "a new child", func(s lab.PeerStatus) bool {
		return s.ChildPID != 0 && s.ChildPID != before.ChildPID && s.State == "up"
	})
	wantPing(t, p.Beta, lab.AlphaInner6)
	p.AlphaTable.Set("beta", "addresses", `["10.77.0.1/24", "10.77.8.1/24", "fd77::1/64"]`)
	p.Alpha.Configure(p.AlphaTable)
	giveTo(t, p.Alpha.Dir, user)
	if r := p.Alpha.Ctl("reload"); r.Code != 0 {
		t.Errorf("reload: exit %d: %s", r.Code, r.Stderr)
	}
	lab.Until(t, lab.Patience, "a new address", func() bool {
		return strings.Contains(p.Alpha.IP("address", "show", "dev", p.AlphaDevice), "10.77.8.1/24")
	})
}

// A container often leaves root nothing but CAP_NET_ADMIN: the tunnel works, and says what its child has kept.
func TestTundRunsAsRootWithOneCapability(t *testing.T) {
	t.Parallel()
	const capabilities = "-all,+net_admin"
	p := newPair(t, lab.PairOptions{})
	p.Alpha.Around = []string{"setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities}
	p.Up()
	wantPing(t, p.Alpha, lab.BetaInner4)
	status := p.Alpha.MustPeer("beta")
	if want := walls[:len(walls)-1]; !slices.Equal(status.Sandbox, want) || !slices.Equal(status.SandboxLacks, walls[len(walls)-1:]) || status.Restarts != 0 {
		t.Errorf("sandbox %v, lacks %v, %d restarts, want %v", status.Sandbox, status.SandboxLacks, status.Restarts, want)
	}
	wantConfined(t, status.ChildPID)
}

// unprivileged is what starts a program as a user with the two capabilities of tund's unit.
func unprivileged(user int) []string {
	const capabilities = "-all,+net_admin,+net_bind_service"
	id := strconv.Itoa(user)
	return []string{
		"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs",
		"--inh-caps", capabilities, "--ambient-caps", capabilities, "--bounding-set", capabilities,
	}
}

// openTun is what starts a program with a /dev/net/tun that everybody may open, as udev
// makes it.
func openTun(n *lab.Node) []string {
	const script = `mknod -m 666 "$0" c 10 200 && mount --bind "$0" /dev/net/tun && exec "$@"`
	return []string{"unshare", "--mount", "sh", "-c", script, n.Path("tun")}
}

// giveTo makes a directory and all in it a user's.
func giveTo(t *testing.T, dir string, user int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, user, user)
	})
	if err != nil {
		t.Fatal(err)
	}
}
