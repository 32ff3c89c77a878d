package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// runtimeFDs are the descriptors that the Go runtime opens when its scavenger first
	// follows a collection of garbage: an epoll and an event.
	runtimeFDs = 2

	// memoryAllowance is how much more a child may map than at its start. Its runtime reserves
	// 64 MiB at a time, and 8 MiB for the stack of a thread.
	memoryAllowance = 512 << 20
)

const (
	// restless is how long a thread with real-time priority may run without a sleep before the
	// kernel kills the process. A packet loop gives the priority back after some hundredths of a second of that.
	restless = time.Second
)

// MaxTasks is how many threads the user that a child runs as may have in all when the child makes one
// more: those of two thousand children, and less than TasksMax= of tund.service, so that their parent
// can always make another one. The kernel has no count for each child; package supervisor has.
const MaxTasks = 18 << 10

// setLimits takes from a child, for good, what it could use up of the machine.
func setLimits(lastFD int) error {
	data, err := mapped()
	if err != nil {
		return fmt.Errorf("set limits: %w", err)
	}
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"descriptors", unix.RLIMIT_NOFILE, uint64(lastFD) + 1 + runtimeFDs},
		{"size of files", unix.RLIMIT_FSIZE, 0},
		{"memory", unix.RLIMIT_DATA, data + memoryAllowance}, // not the address space, most of which Go only reserves
		{"real-time priority", unix.RLIMIT_RTPRIO, 1},        // the parent may raise a thread so far
		{"time without sleep", unix.RLIMIT_RTTIME, sleepless()},
		{"processes", unix.RLIMIT_NPROC, MaxTasks},
		{"locked memory", unix.RLIMIT_MEMLOCK, 0},
		{"message queues", unix.RLIMIT_MSGQUEUE, 0},
		{"core", unix.RLIMIT_CORE, 0},
	} {
		if err := lower(l.resource, l.value); err != nil {
			return fmt.Errorf("set limit of %s: %w", l.name, err)
		}
	}
	return nil
}

// sleepless is the limit of restless in microseconds. There is none where somebody has chosen a policy for
// tund: its loops keep that (see cmd/tund), and may have to run for longer.
func sleepless() uint64 {
	policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	if errno != 0 || policy&^unix.SCHED_RESET_ON_FORK != unix.SCHED_NORMAL {
		return unix.RLIM_INFINITY
	}
	return uint64(restless / time.Microsecond)
}

// lower sets both sides of a limit, which stays where it was lower.
func lower(resource int, value uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return err
	}
	value = min(value, now.Max)
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value})
}

// mapped returns the bytes that count for the limit of memory now.
func mapped() (uint64, error) {
	const path, column = "/proc/self/statm", 5 // stacks included
	text, err := read(path)
	if err != nil {
		return 0, err
	}
	columns := strings.Fields(text)
	if len(columns) <= column {
		return 0, fmt.Errorf("read %s: %d columns", path, len(columns))
	}
	pages, err := strconv.ParseUint(columns[column], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return pages * uint64(os.Getpagesize()), nil
}
