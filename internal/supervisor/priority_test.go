package supervisor_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/pipe"
	"tund/internal/supervisor"
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

func needPriority(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 || runtime.NumCPU() != pipe.UrgentProcessors {
		t.Skipf("needs root, to set a real-time priority, and %d processors", pipe.UrgentProcessors)
	}
}

func TestOneThreadOfTheChildIsRaised(t *testing.T) {
	needPriority(t)
	const turns = unix.SCHED_RR | unix.SCHED_RESET_ON_FORK
	const normal = unix.SCHED_NORMAL | unix.SCHED_RESET_ON_FORK
	r := supervise(t, "urgent", patient(), grant(time.Hour))
	e := r.started()
	other := otherThread(t, e.PID)
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
		{"another one of its threads", other, other, turns},
		{"the one before", other, e.PID, normal},
		{"no thread", 1 << 30, other, normal},
		{"its own thread once more", e.PID, e.PID, turns},
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

func grant(d time.Duration) tune {
	return func(_ *supervisor.Options, s *supervisor.Supervisor) {
		if s != nil {
			s.SetGrant(d)
		}
	}
}

// otherThread is one beside the first.
func otherThread(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil || len(tasks) < 2 {
		t.Fatalf("%d threads, %v", len(tasks), err)
	}
	id, err := strconv.Atoi(tasks[len(tasks)-1].Name())
	if err != nil || id == pid {
		t.Fatalf("thread %d of %d, %v", id, pid, err)
	}
	return id
}

func TestPriorityThatIsNotRenewedIsTakenBack(t *testing.T) {
	needPriority(t)
	r := supervise(t, "urgent", patient(), grant(100*time.Millisecond))
	e := r.started()
	for range 2 { // it can be had again
		if err := r.s.Send(1, pipe.SendProbe{ID: uint64(e.PID)}); err != nil {
			t.Fatal(err)
		}
		r.received()
		for end := time.Now().Add(patience); policy(t, e.PID)&^unix.SCHED_RESET_ON_FORK != unix.SCHED_NORMAL; {
			if time.Now().After(end) {
				t.Fatal("it keeps the priority")
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func TestAChildWithTooManyThreadsIsKilled(t *testing.T) {
	r := supervise(t, "threads", heartbeat(50*time.Millisecond), limits(patience, patience, patience))
	r.started()
	if err := r.exited().Err; err == nil || !strings.Contains(err.Error(), "killed: has ") || !strings.Contains(err.Error(), "threads, and may have 64") {
		t.Errorf("ended with %v", err)
	}
}

func TestAChildWithFewThreadsIsNot(t *testing.T) {
	r := supervise(t, "few threads", heartbeat(50*time.Millisecond), limits(patience, patience, patience))
	r.started()
	for range 5 { // heartbeats
		if _, ok := r.received().(pipe.Stats); !ok {
			t.Fatal("no answer to a heartbeat")
		}
	}
}
