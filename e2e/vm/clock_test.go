package vm

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// interval is the rekey_interval of guest/install.sh.
const interval = 10 * time.Second

// The wall clock jumps: forward by years, back by a day, and to before tund was written. Nothing that
// tund does may notice. After each jump the keys change in time, and no oftener; on order; and a
// node is restarted, so that sessions and certificates begin at that time.
func TestClockThatJumpsChangesNothing(t *testing.T) {
	g := newGuest(t)
	before := g.run("date +%s; cut -d. -f1 /proc/uptime")
	t.Cleanup(func() {
		// As if nothing had been: for the journal's sake.
		old := strings.Fields(before)
		g.run("date --set=@$(($(cut -d. -f1 /proc/uptime) - " + old[1] + " + " + old[0] + "))")
	})
	p := g.startPings()
	for i, to := range []string{"2031-01-01 00:00:00", "-1 day", "1999-12-31 23:59:50"} {
		restarted := []*node{g.alpha, g.beta}[i%2]
		j := g.jump(to)
		j.wantKeysInTime()
		j.wantSameSessions()
		j.wantAges()
		j.wantRotation()
		j.wantSaneJournal()
		j.wantRestart(restarted)
		j.wantAges()
	}
	p.wantNoLoss()
}

// jump is what there was before the clock was set.
type jump struct {
	*guest
	at    time.Duration // by the machine's uptime
	epoch uint32
}

// jump sets the clock.
func (g *guest) jump(to string) *jump {
	g.Helper()
	g.Logf("=== clock to %s", to)
	j := &jump{guest: g, at: g.uptime(), epoch: g.alpha.status().Peers[0].Epoch}
	g.run("date --set='" + to + "'")
	return j
}

// wantKeysInTime waits for the second change of keys, and wants them at their distance.
func (j *jump) wantKeysInTime() {
	j.Helper()
	j.until(4*interval, "keys change by themselves", func() bool { return j.alpha.status().Peers[0].Epoch >= j.epoch+2 })
	changes := int(j.alpha.status().Peers[0].Epoch - j.epoch)
	if took := j.uptime() - j.at; changes > int(took/interval)+1 {
		j.Errorf("keys changed %d times in %v, want every %v", changes, took, interval)
	}
}

// wantSameSessions fails the test if a session has ended since the jump, or a service.
func (j *jump) wantSameSessions() {
	j.Helper()
	for _, n := range []*node{j.alpha, j.beta} {
		if said := n.said(j.at, ""); len(said) > 0 {
			j.Errorf("%s noticed the jump:\n%s", n.unit, strings.Join(said, "\n"))
		}
	}
}

// wantAges fails the test if tund tells of a time that is not the machine's.
func (j *jump) wantAges() {
	j.Helper()
	up := j.uptime().Seconds() + 1
	for _, n := range []*node{j.alpha, j.beta} {
		now := j.number("date +%s")
		status := n.status()
		peer := status.Peers[0]
		for name, age := range map[string]float64{
			"state": peer.StateAgeS, "since": now - float64(peer.Since.Unix()), "epoch": peer.EpochAgeS,
			"node": status.Node.UptimeS, "configuration": now - float64(status.Node.Config.LoadedAt.Unix()),
		} {
			if age < -1 || age > up {
				j.Errorf("%s: %s is %v s old on a machine that has been up for %v s", n.unit, name, age, up)
			}
		}
		j.wantAgesInTable(n, up)
	}
}

// wantAgesInTable is wantAges for what people read.
func (j *jump) wantAgesInTable(n *node, up float64) {
	j.Helper()
	lines := strings.Split(j.run(n.ctl("status")), "\n")
	names, values := strings.Fields(lines[0]), strings.Fields(lines[1])
	for i, name := range names {
		if name != "FOR" {
			continue
		}
		age, err := time.ParseDuration(values[i])
		if err != nil || age.Seconds() > up {
			j.Errorf("%s: up for %s, on a machine that has been up for %v s: %v\n%s", n.unit, values[i], up, err, lines[1])
		}
		return
	}
	j.Errorf("%s: no column FOR: %s", n.unit, lines[0])
}

// wantRotation has the keys changed on order.
func (j *jump) wantRotation() {
	j.Helper()
	var r lab.Rotation
	output := j.run(j.beta.ctl("rotate-key alpha --json"))
	if err := json.Unmarshal([]byte(output), &r); err != nil || len(r.Results) != 1 || r.Results[0].Result != "done" {
		j.Fatalf("rotate-key: %v: %s", err, output)
	}
	if a, b := j.alpha.status().Peers[0].Epoch, j.beta.status().Peers[0].Epoch; a != b {
		j.Errorf("epoch %d on alpha, %d on beta", a, b)
	}
}

// wantRestart restarts a node, which hands over its keys to a tund that begins at this time.
func (j *jump) wantRestart(n *node) {
	j.Helper()
	j.run("systemctl restart " + n.unit)
	j.awaitUp()
	for _, n := range []*node{j.alpha, j.beta} {
		if restarts := n.show("NRestarts"); restarts != "0" {
			j.Errorf("%s: %s restarts that nobody asked for", n.unit, restarts)
		}
	}
	sessions := func() int { return len(n.said(j.at, "EVENT='session established'")) }
	j.until(upLimit, "a session begins at this time", func() bool { return sessions() > 0 })
	j.awaitUp()
	if n := sessions(); n != 1 {
		j.Errorf("%d sessions since the restart, want 1", n)
	}
}

// wantSaneJournal fails the test if anything was found to be wrong since the jump, or if times
// are told that nothing took.
func (j *jump) wantSaneJournal() {
	j.Helper()
	for _, n := range []*node{j.alpha, j.beta} {
		if wrong := n.said(j.at, "-p warning"); len(wrong) > 0 {
			j.Errorf("%s: %s", n.unit, strings.Join(wrong, "\n"))
		}
		for _, line := range n.said(j.at, "") {
			for field := range strings.FieldsSeq(line) {
				key, value, _ := strings.Cut(field, "=")
				took, err := time.ParseDuration(strings.Trim(value, strconv.Quote("")))
				if key == "duration" && (err != nil || took < 0 || took > time.Minute) {
					j.Errorf("%s: %s", n.unit, line)
				}
			}
		}
	}
}
