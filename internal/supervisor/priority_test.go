package supervisor_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/pipe"
)

// policy is the scheduling policy of a thread, with SCHED_RESET_ON_FORK.
func policy(t *testing.T, thread int) int {
	t.Helper()
	p, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(thread), 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(p)
}

func TestAThreadOfTheChildIsRaised(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: sets a real-time priority")
	}
	const turns = unix.SCHED_RR | unix.SCHED_RESET_ON_FORK
	r := supervise(t, "urgent", patient())
	e := r.started()
	for _, tt := range []struct {
		what         string
		asked, looks int
		want         int
	}{
		{"a thread of the parent", os.Getpid(), os.Getpid(), unix.SCHED_NORMAL},
		{"no thread", 1 << 30, e.PID, unix.SCHED_NORMAL},
		{"thread 0", 0, e.PID, unix.SCHED_NORMAL},
		{"its own thread", e.PID, e.PID, turns},
		{"its own thread again", e.PID, e.PID, turns},
	} {
		if err := r.s.Send(1, pipe.SendProbe{ID: uint64(tt.asked)}); err != nil {
			t.Fatal(err)
		}
		if m := r.received(); m != (pipe.ProbeResult{ID: uint64(tt.asked), OK: true}) {
			t.Errorf("%s: received %#v", tt.what, m)
		}
		if got := policy(t, tt.looks); got != tt.want {
			t.Errorf("%s: policy %#x, want %#x", tt.what, got, tt.want)
		}
	}
}
