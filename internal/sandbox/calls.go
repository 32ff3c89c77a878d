package sandbox

import (
	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// calls returns the names of all system calls that a child can make on an architecture,
// with those of restrictions. What it makes for every packet is among the others: the
// kernel remembers of those that no argument matters, and asks no filter.
func calls(goarch string) []string {
	names := []string{
		// packets, messages and the log
		"recvmsg", "sendmmsg", "sendto", "getsockopt", "setsockopt",
		"preadv2", "readv", "read", "write", "ppoll",
		"clock_gettime",

		// the Go runtime and the C library: threads
		"clone", "clone3", "set_robust_list", "rseq", "futex", "nanosleep", "clock_nanosleep", "sched_yield",
		"sched_getaffinity", "sched_getscheduler", "sched_setscheduler", "getpid", "gettid", "exit", "exit_group",
		// signals
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "restart_syscall",
		// memory
		"mmap", "munmap", "mprotect", "madvise", "brk", "prctl",
		// what a collection of garbage may start: timers
		"epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2",
		"close", "getrandom",
	}
	if goarch == "amd64" {
		names = append(names, "poll")
	}
	return names
}

// A restriction refuses a call of the list if any condition holds.
type restriction struct {
	call    string
	refused []seccomp.Condition
}

// restrictions are for a process with the given id. Conditions see arguments, not what
// they point to: of sendmmsg, the address to send to can't be checked. All of clone3 is
// pointed to, so it is said not to exist; C libraries then use clone.
func restrictions(pid int) []restriction {
	const (
		namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
			unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
		nameMemory = 0x53564d41 // PR_SET_VMA
	)
	is := func(argument uint32, o seccomp.Operation, value uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: o, Value: value}
	}
	return []restriction{
		{"clone", []seccomp.Condition{is(0, seccomp.BitsNotSet, unix.CLONE_THREAD), is(0, seccomp.BitsSet, namespaces)}},
		{"tgkill", []seccomp.Condition{is(0, seccomp.NotEqual, uint64(pid))}},
		{"mmap", []seccomp.Condition{is(2, seccomp.BitsSet, unix.PROT_EXEC)}},
		{"mprotect", []seccomp.Condition{is(2, seccomp.BitsSet, unix.PROT_EXEC)}},
		{"prctl", []seccomp.Condition{is(0, seccomp.NotEqual, nameMemory)}},
		{"sendto", []seccomp.Condition{is(4, seccomp.NotEqual, 0)}},
		{"sched_getscheduler", []seccomp.Condition{is(0, seccomp.NotEqual, 0)}},
		{"sched_setscheduler", []seccomp.Condition{is(0, seccomp.NotEqual, 0), is(1, seccomp.NotEqual, unix.SCHED_NORMAL|unix.SCHED_RESET_ON_FORK)}},
		{"setsockopt", []seccomp.Condition{is(1, seccomp.NotEqual, unix.SOL_UDP), is(2, seccomp.NotEqual, unix.UDP_GRO)}},
	}
}
