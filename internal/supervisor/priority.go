package supervisor

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// raise gives a thread of the child the lowest real-time priority, in turns with others that
// have it (SCHED_RR). Without the right to do so the thread goes on as it is.
func (c *child) raise(thread int) {
	if err := raise(c.cmd.Process.Pid, thread); err != nil && !c.watch.refused {
		c.watch.refused = true
		c.s.o.Log.Debug("no real-time priority", "child", c.number, "reason", err.Error())
	}
}

// raise takes CAP_SYS_NICE, or a process of the same user with a limit RLIMIT_RTPRIO of 1
// (sched(7)). Threads that the thread starts get nothing of it.
func raise(pid, thread int) error {
	if err := unix.Tgkill(pid, thread, 0); err != nil {
		return fmt.Errorf("find thread %d of process %d: %w", thread, pid, err)
	}
	lowest := int32(1)
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(thread), unix.SCHED_RR|unix.SCHED_RESET_ON_FORK,
		uintptr(unsafe.Pointer(&lowest)))
	if errno != 0 {
		return fmt.Errorf("set real-time priority: %w", errno)
	}
	return nil
}
