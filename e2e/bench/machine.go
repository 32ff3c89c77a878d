package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"tund/e2e/lab"
)

// tick is the unit of /proc/stat.
const tick = time.Second / 100

// busyTime returns the time that all processors together have worked since the start.
func busyTime() (time.Duration, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(string(content))
}

// parseBusy adds up the first line of /proc/stat but for idle, iowait, steal, and the
// time of guests, which user time holds already.
func parseBusy(text string) (time.Duration, error) {
	fields := strings.Fields(firstLine(text))
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat: %q", firstLine(text))
	}
	sum := uint64(0)
	for _, i := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq
		ticks, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += ticks
	}
	return time.Duration(sum) * tick, nil
}

// tunnelProcesses returns the processes on a node that are no part of the load.
func (b *bed) tunnelProcesses(n *lab.Node) []int {
	return slices.DeleteFunc(n.Processes(), func(pid int) bool {
		return slices.Contains([]string{"iperf3", "ping", "ip", ""}, lab.ProcStatus(pid)["Name"])
	})
}

// isChild reports whether a process is one of tund's children.
func isChild(pid int) bool { return strings.HasPrefix(lab.ProcStatus(pid)["Name"], "tund: ") }

// fact is a line at the head of the report.
type fact struct{ name, value string }

// facts returns what the numbers depend on, besides the programs.
func (b *bed) facts() []fact {
	iperf, err := printed("iperf3", "--version")(b)
	if err != nil {
		b.stage.Fatalf("%v", err)
	}
	usual, err := b.pair.Alpha.Output("cat", "/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		b.stage.Fatalf("%v", err)
	}
	return []fact{
		{"date", time.Now().UTC().Format("2006-01-02 15:04 UTC")},
		{"kernel", output("uname", "-sr")},
		{"processor", fmt.Sprintf("%d × %s", runtime.NumCPU(), processor())},
		{"load generator", iperf},
		{"congestion control", "cubic, set for every stream, and bbr where said (the machine's default: " + strings.TrimSpace(usual) + ")"},
		{"TCP buffers", "tcp_rmem " + sysctl("tcp_rmem") + ", tcp_wmem " + sysctl("tcp_wmem")},
		{"command", command(os.Args[1:])},
	}
}

// command returns what to type to have this report again, where reports are kept.
func command(args []string) string {
	var flags []string
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if name != "out" {
			flags = append(flags, args[i])
		} else if !joined {
			i++ // the file
		}
	}
	if len(flags) == 0 {
		return "`make bench`"
	}
	return "`make bench BENCHFLAGS='" + strings.Join(flags, " ") + "'`"
}

func sysctl(name string) string {
	content, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(content)), " ")
}

func processor() string {
	content, _ := os.ReadFile("/proc/cpuinfo") // unreadable: unknown
	for line := range strings.Lines(string(content)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// output returns what a command prints, "unknown" if it fails.
func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
