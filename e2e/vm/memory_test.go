package vm

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// oomLimit bounds the wait for what the kernel or systemd does about memory; it is no
// measurement.
const oomLimit = time.Minute

// A service whose MemoryMax= cannot hold it is killed by the kernel, in part or whole, and started
// again, and tund or systemd say so. When the limit is lifted it is back, with its device. The kernel
// is told to take children before their parent; where a limit is set below what is in use, it goes
// on killing before the first has gone.
func TestServiceThatMemoryMaxCannotHoldComesBackWhenItIsLifted(t *testing.T) {
	g := newGuest(t)
	index := g.number("cat /sys/class/net/tun-beta/ifindex")
	t.Cleanup(func() { g.alpha.limitMemory("infinity") })
	if score := g.score(g.alpha.show("MainPID")); score != -900 {
		t.Errorf("tund's score is %v", score)
	}
	if score := g.score(strconv.Itoa(g.alpha.status().Peers[0].ChildPID)); score != 0 {
		t.Errorf("its child's score is %v", score)
	}

	start := g.uptime()
	g.alpha.limitMemory(strconv.Itoa(g.alpha.anonymous() * 9 / 10))
	const (
		child = "where memory is short the kernel does that, and logs it"
		main  = "Main process exited, code=killed, status=9/KILL"
	)
	g.until(oomLimit, "what was killed is told", func() bool {
		return contains(g.alpha.said(start, "EVENT='child exited'"), child) || contains(g.alpha.said(start, ""), main)
	})
	if !contains(g.alpha.said(start, ""), "A process of this unit has been killed by the OOM killer.") {
		t.Errorf("systemd does not tell why: %v", g.alpha.said(start, ""))
	}
	g.alpha.limitMemory("infinity")
	g.awaitUp()

	start = g.uptime()
	g.alpha.limitMemory("3M")
	g.until(oomLimit, "the service is killed, and systemd says so", func() bool {
		said := g.alpha.said(start, "")
		return contains(said, "has been killed by the OOM killer") && contains(said, main) &&
			contains(said, "Scheduled restart job")
	})
	g.alpha.limitMemory("infinity")
	g.awaitUp()
	if active := g.alpha.show("ActiveState"); active != "active" {
		t.Errorf("the service is %s", active)
	}
	if now := g.number("cat /sys/class/net/tun-beta/ifindex"); now != index {
		t.Errorf("the device was %v, is %v", index, now)
	}
	g.Logf("tund said on its return: %s", strings.Join(g.alpha.said(start, "-p warning"), "\n"))
}

// score is what the kernel adds to the size of a process when it looks for one to kill.
func (g *guest) score(pid string) float64 {
	g.Helper()
	return g.number("cat /proc/" + pid + "/oom_score_adj")
}

// limitMemory sets the limit of the node's service, which is in force at once.
func (n *node) limitMemory(limit string) {
	n.Helper()
	n.run("systemctl set-property --runtime " + n.unit + " MemoryMax=" + limit)
}

// anonymous is the memory of the node's service that the kernel can't do without, in bytes.
func (n *node) anonymous() int {
	n.Helper()
	return int(n.number("awk '$1 == \"anon\" { print $2 }' /sys/fs/cgroup/system.slice/" + n.unit + "/memory.stat"))
}

// contains reports whether one of the lines has a text in it.
func contains(lines []string, text string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, text) })
}
