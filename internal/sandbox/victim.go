package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PreferVictim has the kernel kill the child of the given id rather than the calling process when
// memory is short: one tunnel is gone for a moment then, and not all of them. Where the caller is
// spared, as by OOMScoreAdjust= of its unit, the child is not; else both stay as they are, since a
// child that is preferred to the whole machine would die for what others take.
// The parent calls it right after the start: a new process allocates at once.
func PreferVictim(pid int) error {
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return fmt.Errorf("prefer victim: %w", err)
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("prefer victim: %w", err)
	}
	if own >= 0 {
		return nil
	}
	if err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("0"), 0); err != nil {
		return fmt.Errorf("prefer victim: %w", err)
	}
	return nil
}
