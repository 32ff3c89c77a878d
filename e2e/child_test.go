package e2e

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tund/e2e/lab"
)

// The processes of a node of a pair (see tunnel_test.go):
//
//	tund ── pipes ── child "tund: beta", which holds the device and the UDP socket

func kill(t *testing.T, pid int) {
	t.Helper()
	if pid <= 0 {
		t.Fatalf("no process to kill: %d", pid)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

func TestChildHoldsOnlyItsFourDescriptors(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	child := p.Alpha.MustPeer("beta").ChildPID
	if children := lab.Children(p.Alpha.PID()); !slices.Equal(children, []int{child}) {
		t.Errorf("children of tund: %v, status shows %d", children, child)
	}
	found, err := lab.Descriptors(child)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]string{3: "pipe:", 4: "pipe:", 5: "/dev/net/tun", 6: "socket:"}
	for fd, kind := range want {
		if !strings.HasPrefix(found[fd], kind) {
			t.Errorf("descriptor %d is %q, want %s", fd, found[fd], kind)
		}
	}
	for _, fd := range slices.Sorted(maps.Keys(found)) {
		// What the Go runtime polls with is its own, and leads nowhere.
		ofRuntime := found[fd] == "anon_inode:[eventpoll]" || found[fd] == "anon_inode:[eventfd]"
		if fd > 6 && !ofRuntime {
			t.Errorf("descriptor %d is %q, want none", fd, found[fd])
		}
	}
	wantOwnPipes(t, found)
	for fd, target := range found {
		if fd <= 2 && strings.HasPrefix(target, "/") && target != "/dev/null" && filepath.Dir(target) != p.Alpha.Dir {
			t.Errorf("stdio %d is %q", fd, target)
		}
	}
}

// wantOwnPipes fails the test unless the two pipes of a child are two.
func wantOwnPipes(t *testing.T, found map[int]string) {
	t.Helper()
	if found[3] == found[4] {
		t.Errorf("both pipes are %s", found[3])
	}
}

func TestChildIsNamedAfterItsPeerAndHasNoPrivileges(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	child := p.Alpha.MustPeer("beta").ChildPID
	if shown := lab.CommandOf(child); !strings.Contains(shown, "beta") {
		t.Errorf("ps shows the child as %q", shown)
	}
	status := lab.ProcStatus(child)
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"} {
		if strings.Trim(status[set], "0") != "" {
			t.Errorf("%s of the child is %s", set, status[set])
		}
	}
	if status["NoNewPrivs"] != "1" {
		t.Errorf("NoNewPrivs of the child is %q", status["NoNewPrivs"])
	}
	if strings.HasPrefix(status["Uid"], "0") || strings.HasPrefix(status["Gid"], "0") || status["Groups"] != "" {
		t.Errorf("the child runs as uid %q, gid %q, groups %q", status["Uid"], status["Gid"], status["Groups"])
	}
	wantEveryThreadAlike(t, child)
}

// wantEveryThreadAlike fails the test if a thread of a process has a capability:
// capabilities belong to threads.
func wantEveryThreadAlike(t *testing.T, pid int) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			t.Fatal(err)
		}
		status := lab.ProcStatus(id)
		if strings.Trim(status["CapEff"]+status["CapPrm"], "0") != "" || status["NoNewPrivs"] != "1" {
			t.Errorf("thread %d has CapPrm %s, CapEff %s, NoNewPrivs %s", id, status["CapPrm"], status["CapEff"], status["NoNewPrivs"])
		}
	}
}

func TestKilledChildIsReplacedAndItsDeviceStays(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	index := p.Alpha.Index(p.AlphaDevice)
	for _, node := range []*lab.Node{p.Alpha, p.Beta} {
		killChild(t, p, node)
		if now := p.Alpha.Index(p.AlphaDevice); now != index {
			t.Errorf("interface index was %d, is %d", index, now)
		}
	}
}

// killChild kills the child of a node's only peer under a ping, which must be answered again.
func killChild(t *testing.T, p *lab.Pair, node *lab.Node) {
	t.Helper()
	peer := node.Status().Peers[0].Name
	before := node.MustPeer(peer)
	ping := p.Alpha.StartPing(lab.BetaInner4)
	kill(t, before.ChildPID)
	after := node.WaitPeer(peer, lab.Patience, "a new child", func(s lab.PeerStatus) bool {
		return s.ChildPID != 0 && s.ChildPID != before.ChildPID && s.State == "up"
	})
	t.Logf("child of %s on %s killed: %v", peer, node.Name, ping.Stop())
	wantPing(t, p.Alpha, lab.BetaInner4)
	if after.Epoch == before.Epoch || after.Restarts != before.Restarts+1 {
		t.Errorf("epoch was %d, is %d; restarts were %d, are %d", before.Epoch, after.Epoch, before.Restarts, after.Restarts)
	}
}
