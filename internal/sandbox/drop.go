package sandbox

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The words in argv[1] of the two stages.
const (
	RoleStart = "datapath-start" // stage 1: calls Drop
	Role      = "datapath"       // stage 2: calls Enter
)

// Drop gives up all privileges of the calling thread and executes this program again
// with the given argv and environment. Of the open descriptors, the new program gets
// those up to lastFD. Drop returns only if that did not work; the process
// must then end, since it is half stripped.
//
// A process of root becomes user tund (nobody, if there is no such user) with no groups, as far as
// its capabilities allow; Confine says what is left of root. Any other stays who it is.
func Drop(lastFD int, argv, env []string) error {
	runtime.LockOSThread() // never unlocked: execve keeps this thread only
	if err := dropPrivileges(); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	if err := unix.CloseRange(uint(lastFD)+1, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("drop privileges: close descriptors: %w", err)
	}
	// The link of the running file, not its path: that may hold a newer program by now.
	if err := syscall.Exec("/proc/self/exe", argv, env); err != nil {
		return fmt.Errorf("execute /proc/self/exe with user id %d: %w", os.Getuid(), err)
	}
	return nil
}

// dropPrivileges concerns the calling thread only: it makes the system calls itself,
// where package syscall would ask all threads.
func dropPrivileges() error {
	dropBounding()
	dropIDs()
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	var none [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("clear capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// dropBounding empties the bounding set. It takes CAP_SETPCAP; without that
// the set stays, and no_new_privs alone keeps an exec from gaining anything.
func dropBounding() {
	for c := uintptr(0); ; c++ {
		if unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0) != nil {
			return // not permitted, or beyond the last capability
		}
	}
}
