package supervisor

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/pipe"
)

// grantLife is how long a thread keeps the priority that it does not ask for again.
const grantLife = 3 * time.Second

// A grant is the real-time priority that a child has been given. It belongs to the child's run
// goroutine. One thread has it at a time, as one packet loop asks for it; no other message of a
// child can make it two, or make it last.
type grant struct {
	thread  int              // that has it, or had it and gave it back; 0: none
	timer   *time.Timer      // nil before the first
	expired <-chan time.Time // the timer's
	refused bool             // that has been said
}

// raise gives a thread of the child the lowest real-time priority, in turns with others that
// have it (SCHED_RR), and takes it from the one before. Without the right to do so the thread goes on as it is.
func (c *child) raise(thread int) {
	g := &c.watch.grant
	if thread != g.thread {
		c.lower()
	}
	if err := raise(c.cmd.Process.Pid, thread); err != nil {
		if !g.refused {
			g.refused = true
			c.s.o.Log.Debug("no real-time priority", "child", c.number, "reason", err.Error())
		}
		return
	}
	g.thread = thread
	if g.timer == nil {
		g.timer = time.NewTimer(c.s.limits.grant)
		g.expired = g.timer.C
	}
	g.timer.Reset(c.s.limits.grant)
}

// lower takes back what was given, where the child has not done that itself.
func (c *child) lower() {
	g := &c.watch.grant
	if g.thread == 0 {
		return
	}
	g.timer.Stop()
	if err := schedule(c.cmd.Process.Pid, g.thread, unix.SCHED_NORMAL, 0); err != nil {
		c.s.o.Log.Debug("real-time priority not taken back", "child", c.number, "reason", err.Error()) // the thread has ended
	}
	g.thread = 0
}

// raise takes CAP_SYS_NICE, or a process of the same user with a limit RLIMIT_RTPRIO of 1
// (sched(7)). Threads that the thread starts get nothing of it.
func raise(pid, thread int) error {
	if n := runtime.NumCPU(); n != pipe.UrgentProcessors {
		return fmt.Errorf("no child is urgent with %d processors", n)
	}
	return schedule(pid, thread, unix.SCHED_RR, 1)
}

// schedule sets the policy of a thread, once it is known to be one of the process.
func schedule(pid, thread int, policy uintptr, priority int32) error {
	if err := unix.Tgkill(pid, thread, 0); err != nil {
		return fmt.Errorf("find thread %d of process %d: %w", thread, pid, err)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(thread), policy|unix.SCHED_RESET_ON_FORK,
		uintptr(unsafe.Pointer(&priority)))
	if errno != 0 {
		return fmt.Errorf("set scheduling policy: %w", errno)
	}
	return nil
}
