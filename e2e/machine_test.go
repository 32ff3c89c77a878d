package e2e

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// Trouble with the machine that a node runs on: no tunnel device, a file system that is full or
// read-only. Each is told clearly, and is over when its cause is. The node has mounts of its own.

// mounts has a node's tund run with mounts that nobody else sees; script makes them.
func mounts(n *lab.Node, script string) {
	n.Around = []string{"unshare", "--mount", "sh", "-c", script + ` && exec "$@"`, "sh"}
}

// inside runs a command with the mounts of a node's tund.
func inside(n *lab.Node, command ...string) *exec.Cmd {
	return n.Command("nsenter", append([]string{"--mount", "--target", strconv.Itoa(n.PID())}, command...)...)
}

// mustInside is inside for what must succeed.
func mustInside(t *testing.T, n *lab.Node, command ...string) {
	t.Helper()
	if out, err := inside(n, command...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
}

// ctlInside runs tunctl where the node's control socket is seen.
func ctlInside(n *lab.Node, args ...string) (string, error) {
	out, err := inside(n, append([]string{programs.Tunctl, "--socket", n.Socket()}, args...)...).CombinedOutput()
	return string(out), err
}

// pings waits for the tunnel of a pair to carry packets.
func pings(t *testing.T, p *lab.Pair) {
	t.Helper()
	lab.Until(t, lab.Patience, "pings are answered", func() bool { return p.Beta.Answers(lab.AlphaInner4) })
}

func TestMachineWithoutTunnelDeviceIsToldAndWaitedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ mount, want string }{
		"missing":    {"mount -t tmpfs tmpfs /dev/net", "/dev/net/tun is missing: load the kernel module tun, or give the container the device"},
		"unreadable": {"mount -t tmpfs -o nodev tmpfs /dev/net && mknod /dev/net/tun c 10 200", "not permitted"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, lab.PairOptions{})
			mounts(p.Alpha, c.mount)
			p.Alpha.Start()
			p.Beta.Start()
			status := p.Alpha.WaitPeer("beta", lab.Patience, "down for want of a device", func(s lab.PeerStatus) bool {
				return s.State == "down" && strings.Contains(s.LastError, c.want)
			})
			t.Log(status.LastError)
			if n := strings.Count(p.Alpha.Log(), "tunnel not opened"); n != 1 {
				t.Errorf("logged %d times, want once", n)
			}
			mustInside(t, p.Alpha, "umount", "/dev/net")
			p.WaitUp()
			wantPing(t, p.Alpha, lab.BetaInner4)
		})
	}
}

// Tunnels are worth more than the possibility to ask about them.
func TestFileSystemThatTakesNoControlSocketStopsNoTunnel(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ mount, cure, want string }{
		"full":      {"nr_inodes=1", "remount,nr_inodes=0", "no space left on device"},
		"read-only": {"ro", "remount,rw", "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, lab.PairOptions{})
			p.Alpha.Runtime = "run"
			manager := p.Alpha.Manage(0)
			run := p.Alpha.Path("run")
			if err := os.Mkdir(run, 0o755); err != nil {
				t.Fatal(err)
			}
			mounts(p.Alpha, "mount -t tmpfs -o "+c.mount+" tmpfs "+run)
			p.Beta.Start()
			p.Alpha.Launch()
			pings(t, p)
			if log := p.Alpha.Log(); strings.Count(log, "control socket not open") != 1 || !strings.Contains(log, c.want) {
				t.Errorf("log:\n%s", log)
			}
			within(t, "it is told", func() bool { return strings.HasSuffix(manager.Status(), "; no control socket: the log says why") })
			mustInside(t, p.Alpha, "mount", "-o", c.cure, run)
			within(t, "tunctl is answered", func() bool { _, err := ctlInside(p.Alpha, "status"); return err == nil })
			within(t, "that is told too", func() bool { return manager.Status() == "1 peer, 1 up" })
		})
	}
}

// Whoever removes the file of the control socket, or all of its directory, does not lose the way to
// tund for good.
func TestRemovedControlSocketIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, removed := range map[string]string{"file": "run/tund.sock", "directory": "run"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, lab.PairOptions{})
			p.Alpha.Runtime = "run"
			p.Up()
			child := p.Alpha.MustPeer("beta").ChildPID
			if err := os.RemoveAll(p.Alpha.Path(removed)); err != nil {
				t.Fatal(err)
			}
			within(t, "tunctl is answered", func() bool { return p.Alpha.Ctl("status").Code == 0 })
			if now := p.Alpha.MustPeer("beta"); now.ChildPID != child || now.State != "up" {
				t.Errorf("child was %d, is %d, state %q", child, now.ChildPID, now.State)
			}
			if log := p.Alpha.Log(); strings.Count(log, "control socket not open") != 1 || strings.Count(log, "control socket open") != 1 {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// An order to stay down is obeyed though it can't be kept, which is said, and kept
// as soon as there is room.
func TestOrderThatFindsNoRoomIsKeptLater(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.Alpha.Runtime = "run"
	run := p.Alpha.Path("run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	mounts(p.Alpha, "mount -t tmpfs -o size=16k tmpfs "+run)
	p.Alpha.Launch()
	p.Beta.Start()
	pings(t, p)
	_ = inside(p.Alpha, "dd", "if=/dev/zero", "of="+run+"/filler", "bs=4k").Run() // ends when it is full
	out, err := ctlInside(p.Alpha, "down", "beta")
	t.Log(strings.TrimSpace(out))
	if err == nil || !strings.Contains(out, "the order could not be kept") || !strings.Contains(out, "no space left on device") {
		t.Errorf("down: %v: %s", err, out)
	}
	wantSilence(t, p.Beta, lab.AlphaInner4)
	mustInside(t, p.Alpha, "rm", run+"/filler")
	within(t, "the order is kept", func() bool {
		return strings.Contains(p.Alpha.Log(), "orders to stay down kept") && inside(p.Alpha, "grep", "-q", "beta", p.Alpha.Socket()+".held").Run() == nil
	})
	if out, err := ctlInside(p.Alpha, "up", "beta"); err != nil {
		t.Errorf("up: %v: %s", err, out)
	}
	wantPing(t, p.Beta, lab.AlphaInner4)
}

// A start that fails is not repeated ten times a second: systemd waits a tenth of one only.
func TestFailedStartHoldsBackTheServiceManager(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	manager := p.Alpha.Manage(0)
	p.Alpha.WriteFile("tund.sock.held", "nonsense")
	p.Alpha.Launch()
	code, took := p.Alpha.Wait(lab.Patience)
	if code != 1 || took < 1500*time.Millisecond {
		t.Errorf("exit %d after %v", code, took)
	}
	if status := manager.Status(); !strings.HasPrefix(status, "not started: read orders to stay down: ") {
		t.Errorf("status %q", status)
	}
}
