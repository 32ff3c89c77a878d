package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PSS returns the proportional set size of a process in bytes: its own memory, and its
// share of what it has in common with others.
func PSS(pid int) (uint64, error) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			fields := strings.Fields(rest)
			if len(fields) != 2 || fields[1] != "kB" {
				break
			}
			kilobytes, err := strconv.ParseUint(fields[0], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("process %d: smaps_rollup has no Pss", pid)
}

// Listens reports whether a process listens on a TCP port within the namespace of pid.
func Listens(pid, port int) bool {
	const listening = "0A"
	for _, table := range []string{"tcp", "tcp6"} {
		content, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/" + table) // unreadable: not there yet
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			if len(fields) > 3 && fields[3] == listening && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
				return true
			}
		}
	}
	return false
}
