package daemon

import (
	"fmt"
	"strings"

	"tund/internal/ctl"
)

// showStatus gives the service manager the line that `systemctl status` shows, when it
// has changed.
func (d *Daemon) showStatus() {
	members := d.all()
	states := make([]ctl.State, len(members))
	for i, m := range members {
		states[i] = m.State()
	}
	d.mu.RLock()
	refused := d.loadErr != "" || d.settling.logged
	d.mu.RUnlock()
	if line := summary(states, d.gates.lacks(), refused, d.unreachable.Load()); line != d.shown {
		d.shown = line
		d.report("status", d.notify.Status(line))
	}
}

// summary is "4 peers, 3 up", and what else an administrator should know at a glance. A peer
// whose key is being changed is up.
func summary(states []ctl.State, missing []string, refused, unreachable bool) string {
	count := make(map[ctl.State]int)
	for _, s := range states {
		count[s]++
	}
	line := "no peers configured"
	if len(states) > 0 {
		line = fmt.Sprintf("%d peers, %d up", len(states), count[ctl.StateUp]+count[ctl.StateRekeying])
	}
	if len(states) == 1 {
		line = fmt.Sprintf("1 peer, %d up", count[ctl.StateUp]+count[ctl.StateRekeying])
	}
	for _, s := range []ctl.State{ctl.StateDegraded, ctl.StateDisabled} {
		if count[s] > 0 {
			line += fmt.Sprintf(", %d %s", count[s], s)
		}
	}
	if len(missing) > 0 {
		line += "; degraded: " + strings.Join(missing, "; ")
	}
	if refused {
		line += "; the configuration on disk is not in force: tunctl status says why"
	}
	if unreachable {
		line += "; no control socket: the log says why"
	}
	return line
}
