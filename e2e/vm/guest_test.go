package vm

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

const (
	// commandLimit bounds one command on the machine, by the clock of whoever waits.
	commandLimit = 5 * time.Minute

	// upLimit bounds the wait for a tunnel that must come up; it is no measurement.
	upLimit = time.Minute
)

// guest is the machine, as one test uses it.
type guest struct {
	*testing.T
	alpha, beta *node
}

// node is one of the two services on it.
type node struct {
	*guest
	unit, socket string
	peer         string // the other one
	inner        string // its own address in the tunnel
	namespace    string // what a command in its network begins with
}

// newGuest returns the machine, booted and with its tunnel up. Should the test fail, it shows what
// the services and the kernel said.
func newGuest(t *testing.T) *guest {
	t.Helper()
	if err := boot(); err != nil {
		t.Fatal(err)
	}
	g := &guest{T: t}
	g.alpha = &node{guest: g, unit: "tund.service", socket: "/run/tund/tund.sock", peer: "beta", inner: "10.77.0.1"}
	g.beta = &node{guest: g, unit: "beta.service", socket: "/run/beta/tund.sock", peer: "alpha", inner: "10.77.0.2", namespace: "ip netns exec beta "}
	t.Cleanup(func() {
		if t.Failed() {
			journal, _, err := booted.Do(commandLimit, "journalctl --no-hostname -o short-monotonic -n 200 -u tund -u beta")
			t.Logf("journal: %v\n%s\nconsole:\n%s", err, journal, booted.Console())
		}
	})
	g.awaitUp()
	return g
}

// try runs a line of shell on the machine.
func (g *guest) try(line string) (output string, code int) {
	g.Helper()
	output, code, err := booted.Do(commandLimit, line)
	if err != nil {
		g.Fatalf("%s: %v: %s", line, err, output)
	}
	return output, code
}

// run runs a line of shell, which must succeed.
func (g *guest) run(line string) string {
	g.Helper()
	output, code := g.try(line)
	if code != 0 {
		g.Fatalf("%s: exit %d: %s", line, code, output)
	}
	return output
}

// number is what a line of shell prints.
func (g *guest) number(line string) float64 {
	g.Helper()
	output := g.run(line)
	n, err := strconv.ParseFloat(output, 64)
	if err != nil {
		g.Fatalf("%s: %v", line, err)
	}
	return n
}

// uptime is the machine's own measure of time, which no clock that is set can change.
func (g *guest) uptime() time.Duration {
	g.Helper()
	return time.Duration(g.number("cut -d' ' -f1 /proc/uptime") * float64(time.Second))
}

// until waits until a condition holds, which must be within a limit by the machine's time.
func (g *guest) until(limit time.Duration, what string, condition func() bool) {
	g.Helper()
	for start := g.uptime(); !condition(); g.run("sleep 0.5") {
		if g.uptime()-start > limit {
			g.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// awaitUp waits until both nodes show the tunnel as up, and it carries packets.
func (g *guest) awaitUp() {
	g.Helper()
	g.until(upLimit, "the tunnel is up", func() bool { return g.alpha.state() == "up" && g.beta.state() == "up" })
	g.run("ping -c 1 -W 5 " + g.beta.inner)
}

// ctl is a line of shell that runs tunctl.
func (n *node) ctl(args string) string { return "tunctl --socket " + n.socket + " " + args }

// state is what the node shows of its peer, or what it says instead.
func (n *node) state() string {
	n.Helper()
	output, code := n.try(n.ctl("status --json"))
	if code != 0 {
		return output
	}
	return n.parse(output).Peers[0].State
}

// status is what the node's tund tells of itself.
func (n *node) status() lab.Status {
	n.Helper()
	return n.parse(n.run(n.ctl("status --json")))
}

func (n *node) parse(output string) (status lab.Status) {
	n.Helper()
	if err := json.Unmarshal([]byte(output), &status); err != nil || len(status.Peers) != 1 {
		n.Fatalf("%s: status: %v: %s", n.unit, err, output)
	}
	return status
}

// show is a property of the node's service.
func (n *node) show(property string) string {
	n.Helper()
	return n.run("systemctl show --value --property=" + property + " " + n.unit)
}

// said is what the node's service, and systemd of it, said since an uptime, a sentence a line.
// Arguments go to journalctl.
func (n *node) said(since time.Duration, args string) []string {
	n.Helper()
	output := n.run(fmt.Sprintf("journalctl --sync; journalctl --quiet --no-hostname -o short-monotonic -u %s %s | awk -F'[][]' '$2 > %f'",
		n.unit, args, since.Seconds()))
	return strings.FieldsFunc(output, func(r rune) bool { return r == '\n' })
}
