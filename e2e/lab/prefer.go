package lab

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Prefer has this process, and all that it starts from now on, come before whatever else the
// machine has to do, until tb ends: what is measured then is the work of the programs under
// test, not how many others want the processors. A tund that is started so keeps this policy: its
// loops neither ask for priority nor rest between their turns. No other test may run beside it. Where the
// machine does not allow it, that is logged, and all goes on as ever.
func Prefer(tb TB) {
	tb.Helper()
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		tb.Fatalf("prefer this process: %v", err)
	}
	if err := Schedule(os.Getpid(), unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 1}); err != nil {
		tb.Logf("not preferred to other work: %v", err)
	}
	tb.Cleanup(func() {
		if err := Schedule(os.Getpid(), *before); err != nil {
			tb.Errorf("still preferred to other work: %v", err)
		}
	})
}

// Schedule changes how every thread of a process is scheduled. A new one is scheduled like that
// which began it, so there is an end to them.
func Schedule(pid int, attr unix.SchedAttr) error {
	attr.Size = unix.SizeofSchedAttr
	dir := fmt.Sprintf("/proc/%d/task", pid)
	done := map[string]bool{}
	for more := true; more; {
		more = false
		tasks, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, task := range tasks {
			if done[task.Name()] {
				continue
			}
			done[task.Name()], more = true, true
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}
