package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Protect keeps the memory of this process, and the secrets in it, from core dumps and
// debuggers: it is no longer dumpable and its core limit is 0. The parent calls it
// at its start; in a child it is part of Enter.
//
// The kernel then gives the files below /proc/PID to root. A process that is not
// root can still follow its own /proc/self/exe, but not open /proc/self/fd, mem, environ or comm for
// writing, and only a process with CAP_SYS_PTRACE can attach to it. Executing a
// program makes the new image dumpable again.
func Protect() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set core limit: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make undumpable: %w", err)
	}
	return nil
}
