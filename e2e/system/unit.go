package system

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"tund/e2e/lab"
)

// unit is the service under test.
const unit = "tund.service"

// Show returns a property of the service, as systemctl names it.
func (m *Machine) Show(property string) string {
	m.fleet.t.Helper()
	return m.Run("systemctl", "show", "--value", "--property="+property, unit)
}

// Active reports whether the service runs.
func (m *Machine) Active() bool {
	return strings.TrimSpace(m.Try("systemctl", "is-active", unit).Stdout) == "active"
}

// MainPID returns the id that the service's first process has on the machine.
func (m *Machine) MainPID() int {
	m.fleet.t.Helper()
	pid, err := strconv.Atoi(m.Show("MainPID"))
	if err != nil {
		m.fleet.t.Fatalf("machine %s: main process of %s: %v", m.Name, unit, err)
	}
	return pid
}

// Signal sends a signal to the service's first process only.
func (m *Machine) Signal(signal string) {
	m.fleet.t.Helper()
	m.Run("systemctl", "kill", "--kill-who=main", "--signal="+signal, unit)
}

// Entry is one entry of the journal, by the names of its fields.
type Entry map[string]any

// Journal returns the entries of the service that match, such as "EVENT=restart".
func (m *Machine) Journal(matches ...string) []Entry {
	m.fleet.t.Helper()
	m.Run("journalctl", "--sync")
	output := m.Run(append([]string{"journalctl", "--quiet", "-o", "json", "-u", unit}, matches...)...)
	var entries []Entry
	for line := range strings.Lines(output) {
		var entry Entry
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			m.fleet.t.Fatalf("machine %s: journal: %v: %s", m.Name, err, line)
		}
		entries = append(entries, entry)
	}
	return entries
}

// AwaitActive waits until the service runs.
func (m *Machine) AwaitActive(limit time.Duration) {
	m.fleet.t.Helper()
	lab.Until(m.fleet.t, limit, unit+" runs on "+m.Name, m.Active)
}
