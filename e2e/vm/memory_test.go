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

// A service whose MemoryMax= cannot hold it is killed by the kernel and started again by systemd,
// which say so. When the limit is lifted it is back, with its device. While there is too little for
// all, but enough for the parent, only the child is killed, which tund says.
func TestServiceThatMemoryMaxCannotHoldComesBackWhenItIsLifted(t *testing.T) {
	g := newGuest(t)
	index := g.number("cat /sys/class/net/tun-beta/ifindex")
	main := g.alpha.show("MainPID")
	t.Cleanup(func() { g.alpha.limitMemory("infinity") })

	start := g.uptime()
	g.alpha.limitMemory(strconv.Itoa(g.alpha.anonymous() * 9 / 10))
	const told = "where memory is short the kernel does that, and logs it"
	g.until(oomLimit, "the child is killed, and tund says so", func() bool {
		return contains(g.alpha.said(start, "EVENT='child exited'"), told)
	})
	if !contains(g.alpha.said(start, ""), "A process of this unit has been killed by the OOM killer.") {
		t.Errorf("systemd does not tell of a child: %v", g.alpha.said(start, ""))
	}
	g.alpha.limitMemory("infinity")
	g.awaitUp()
	if now := g.alpha.show("MainPID"); now != main {
		t.Errorf("the main process was %s, is %s", main, now)
	}

	start = g.uptime()
	g.alpha.limitMemory("3M")
	g.until(oomLimit, "the service is killed, and systemd says so", func() bool {
		said := g.alpha.said(start, "")
		return contains(said, "has been killed by the OOM killer") && contains(said, "Main process exited, code=killed, status=9/KILL") &&
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
