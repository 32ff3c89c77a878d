package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/internal/ctl"
)

// The unit calls `tund stop-kind UNIT` before it sends SIGTERM, as root. SIGTERM looks the same
// for a stop, after which the tunnels are gone and the peers want to know, and for a restart, over
// which they stay. systemd knows which of the two it does: its job says so.

// stopKindLimit is all the time that the helper takes from a stop, which waits for it.
const stopKindLimit = 3 * time.Second

// newStopKind is not for people: hidden from help.
func newStopKind() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use: "stop-kind [UNIT]", Short: "Tell tund whether systemd stops or restarts it", Hidden: true, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), stopKindLimit)
			defer cancel()
			unit, err := unitName(args)
			if err != nil {
				return err
			}
			return tellStopKind(ctx, unit, socket)
		},
	}
	c.Flags().StringVar(&socket, "socket", socketPath(), "control socket `PATH` (environment: TUND_SOCKET)")
	return c
}

// tellStopKind tells the tund at socket which kind of stop the unit is in, and prints it. No
// job is no news: tund takes a SIGTERM without an announcement for a restart.
func tellStopKind(ctx context.Context, unit, socket string) error {
	jobs, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--no-legend", "--no-pager", "--full").Output()
	if err != nil {
		return fmt.Errorf("list jobs of systemd: %w", err)
	}
	kind, ok := stopKind(string(jobs), unit)
	if !ok {
		return say("no job stops " + unit)
	}
	if err := ctl.NewClient(socket, stopKindLimit).StopKind(ctx, kind); err != nil {
		return fmt.Errorf("tell tund of the %s: %w", kind, err)
	}
	return say(unit + ": " + string(kind))
}

// stopKind finds the job of a unit in what `systemctl list-jobs --no-legend` prints: number, unit, type
// and state. A restart goes on as a start when the unit has stopped.
func stopKind(jobs, unit string) (kind ctl.StopKind, ok bool) {
	for line := range strings.Lines(jobs) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[1] != unit {
			continue
		}
		switch fields[2] {
		case "stop":
			return ctl.KindStop, true
		case "restart", "start":
			return ctl.KindRestart, true
		}
	}
	return "", false
}

// unitName is the unit that this process belongs to: as it was told, else as its cgroup is named.
func unitName(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	unit := unitOfCgroup(string(text))
	if unit == "" {
		return "", errors.New("not in a service of systemd: name the unit")
	}
	return unit, nil
}

// unitOfCgroup finds the last service in the paths of cgroups(7): "0::/system.slice/tund.service".
func unitOfCgroup(text string) string {
	unit := ""
	for line := range strings.Lines(text) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), "::")
		for part := range strings.SplitSeq(path, "/") {
			if strings.HasSuffix(part, ".service") {
				unit = part
			}
		}
	}
	return unit
}
