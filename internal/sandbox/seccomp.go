package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

func seccompOffered() error {
	if _, err := arch.GetInfo(runtime.GOARCH); err != nil {
		return fmt.Errorf("no list of system calls for %s", runtime.GOARCH)
	}
	action := uint32(seccomp.ActionErrno)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return offered(errno)
	}
	return nil
}

// filterCalls has the kernel refuse, in all threads, every system call that is not on
// the list of calls.go. A refused call fails with EPERM and does nothing else:
// whoever makes it has not got anything, and a child whose runtime or C library tries
// something new after an update still carries packets. The kernel logs it with the
// child's name (audit message 1326).
func filterCalls() error {
	for _, policy := range policies(runtime.GOARCH, os.Getpid()) {
		flags := seccomp.FilterFlagTSync
		if policy.logged {
			flags |= seccomp.FilterFlagLog
		}
		if err := seccomp.LoadFilter(seccomp.Filter{Flag: flags, Policy: policy.Policy}); err != nil {
			return fmt.Errorf("filter system calls: %w", err)
		}
	}
	return nil
}

// A policy is one filter. The kernel asks all of them and does what the strictest says.
type policy struct {
	seccomp.Policy
	logged bool
}

// policies returns one filter for each restriction, and last the list of what is allowed:
// behind that no more can be loaded. They are not one because the library's filters
// cannot be trusted with a second group, or with a second call whose arguments
// matter: a call that fails the first check is compared by its argument from then on.
func policies(goarch string, pid int) []policy {
	all := []policy{refuse(seccomp.ActionErrno|seccomp.Action(unix.ENOSYS), false, seccomp.SyscallGroup{Names: []string{"clone3"}})}
	for _, r := range restrictions(pid) {
		group := seccomp.SyscallGroup{}
		for _, bad := range r.refused {
			group.NamesWithCondtions = append(group.NamesWithCondtions, seccomp.NameWithConditions{
				Name: r.call, Conditions: seccomp.ArgumentConditions{bad},
			})
		}
		all = append(all, refuse(seccomp.ActionErrno, true, group))
	}
	return append(all, policy{logged: true, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionAllow, Names: calls(goarch)}},
	}})
}

// refuse is a filter for one group that leaves the rest to others.
func refuse(action seccomp.Action, logged bool, group seccomp.SyscallGroup) policy {
	group.Action = action
	return policy{logged: logged, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      []seccomp.SyscallGroup{group},
	}}
}
