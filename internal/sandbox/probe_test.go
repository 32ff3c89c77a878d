package sandbox_test

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/sandbox"
)

func text(errno syscall.Errno) string {
	if errno == 0 {
		return ""
	}
	return errno.Error()
}

// A probe tries something that no child may do.
type probe struct {
	what string
	try  func() syscall.Errno
}

// call makes a system call as it is, on one thread.
func call(nr uintptr, args ...uintptr) func() syscall.Errno {
	var a [6]uintptr
	copy(a[:], args)
	return func() syscall.Errno {
		_, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		return errno
	}
}

// path returns the address of a path that stays where it is.
func path(s string) uintptr {
	p, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	kept = append(kept, p)
	return uintptr(unsafe.Pointer(p))
}

// kept is what probes point to.
var kept []*byte

// room is zeros for a call to read arguments from.
func room() uintptr {
	b := make([]byte, 256)
	kept = append(kept, &b[0])
	return uintptr(unsafe.Pointer(&b[0]))
}

func probes() []probe {
	all := append(probesOfFiles(), probesOfProcesses()...)
	return append(append(all, probesOfSockets()...), probesOfKernel()...)
}

const here = ^uintptr(99) // AT_FDCWD

func probesOfFiles() []probe {
	return []probe{
		{"open /", call(unix.SYS_OPENAT, here, path("/"), unix.O_RDONLY)},
		{"open /etc/passwd", call(unix.SYS_OPENAT, here, path("/etc/passwd"), unix.O_RDONLY)},
		{"open its own status", call(unix.SYS_OPENAT, here, path("/proc/self/status"), unix.O_RDONLY)},
		{"open /dev/net/tun", call(unix.SYS_OPENAT, here, path("/dev/net/tun"), unix.O_RDWR)},
		{"make a file", call(unix.SYS_OPENAT, here, path("/tmp/tund-probe"), unix.O_RDWR|unix.O_CREAT, 0o600)},
		{"open by openat2", call(unix.SYS_OPENAT2, here, path("/etc/passwd"), room(), 24)},
		{"stat", call(unix.SYS_STATX, here, path("/etc/passwd"), 0, 0, room())},
		{"unlink", call(unix.SYS_UNLINKAT, here, path("/tmp/tund-probe"), 0)},
		{"make a directory", call(unix.SYS_MKDIRAT, here, path("/tmp/tund-probe"), 0o700)},
		{"change the directory", call(unix.SYS_CHDIR, path("/"))},
		{"change the root", call(unix.SYS_CHROOT, path("/"))},
		{"mount", call(unix.SYS_MOUNT, path("none"), path("/tmp"), path("tmpfs"), 0, 0)},
		{"unmount", call(unix.SYS_UMOUNT2, path("/proc"), 0)},
		{"make a pipe", call(unix.SYS_PIPE2, room(), 0)},
		{"duplicate a descriptor", call(unix.SYS_DUP3, fdOut, 9, 0)},
		{"own a descriptor's signals", call(unix.SYS_FCNTL, fdIn, unix.F_SETOWN, uintptr(os.Getppid()))},
		{"ioctl", call(unix.SYS_IOCTL, lastFD, unix.TUNSETOFFLOAD, 0)},
		{"memfd_create", call(unix.SYS_MEMFD_CREATE, path("probe"), 0)},
		{"inotify_init1", call(unix.SYS_INOTIFY_INIT1, 0)},
		{"splice", call(unix.SYS_SPLICE, fdIn, 0, fdOut, 0, 1, unix.SPLICE_F_NONBLOCK)},
	}
}

func probesOfProcesses() []probe {
	self, parent := uintptr(os.Getpid()), uintptr(os.Getppid())
	vector := room()
	return []probe{
		{"trace the parent", call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, parent, 0, 0)},
		{"read the parent's memory", call(unix.SYS_PROCESS_VM_READV, parent, vector, 1, vector, 1, 0)},
		{"write the parent's memory", call(unix.SYS_PROCESS_VM_WRITEV, parent, vector, 1, vector, 1, 0)},
		{"ask for the parent", call(unix.SYS_KILL, parent, 0)},
		{"kill the parent", call(unix.SYS_KILL, parent, uintptr(unix.SIGURG))},
		{"kill everybody", call(unix.SYS_KILL, ^uintptr(0), 0)},
		{"tgkill the parent", call(unix.SYS_TGKILL, parent, parent, uintptr(unix.SIGURG))},
		{"tkill the parent", call(unix.SYS_TKILL, parent, uintptr(unix.SIGURG))},
		{"queue a signal", call(unix.SYS_RT_SIGQUEUEINFO, parent, uintptr(unix.SIGURG), room())},
		{"open the parent's pidfd", call(unix.SYS_PIDFD_OPEN, parent, 0)},
		{"signal a pidfd", call(unix.SYS_PIDFD_SEND_SIGNAL, fdIn, 0, 0, 0)},
		{"execve", call(unix.SYS_EXECVE, path("/bin/true"), 0, 0)},
		{"execveat", call(unix.SYS_EXECVEAT, here, path("/bin/true"), 0, 0, 0)},
		{"fork", fork},
		{"make a thread in a new network", call(unix.SYS_CLONE, unix.CLONE_THREAD|unix.CLONE_NEWNET)},
		{"clone3", call(unix.SYS_CLONE3, room(), 88)},
		{"unshare", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
		{"setns", call(unix.SYS_SETNS, fdIn, 0)},
		{"setuid", call(unix.SYS_SETUID, 0)},
		{"setgroups", call(unix.SYS_SETGROUPS, 0, 0)},
		{"capset", call(unix.SYS_CAPSET, room(), room())},
		{"become dumpable", call(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)},
		{"raise a limit", call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, room(), 0)},
		{"limit the parent", call(unix.SYS_PRLIMIT64, parent, unix.RLIMIT_CPU, room(), 0)},
		{"set a priority", call(unix.SYS_SETPRIORITY, 0, self, 5)},
		{"become a session's leader", call(unix.SYS_SETSID)},
	}
}

// fork must not leave a second process behind where it is allowed.
func fork() syscall.Errno {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return errno
}

func probesOfSockets() []probe {
	address := room() // of no family
	return []probe{
		{"make a UDP socket", call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0)},
		{"make a netlink socket", call(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0)},
		{"make two sockets", call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, room())},
		{"connect", call(unix.SYS_CONNECT, lastFD, address, 16)},
		{"bind", call(unix.SYS_BIND, lastFD, address, 16)},
		{"listen", call(unix.SYS_LISTEN, lastFD, 1)},
		{"accept", call(unix.SYS_ACCEPT4, lastFD, 0, 0, 0)},
		{"send to an address", call(unix.SYS_SENDTO, lastFD, address, 1, unix.MSG_DONTWAIT, address, 16)},
		{"send one message", call(unix.SYS_SENDMSG, lastFD, room(), unix.MSG_DONTWAIT)},
		{"shut down", call(unix.SYS_SHUTDOWN, lastFD, unix.SHUT_RDWR)},
		{"set a buffer's size", call(unix.SYS_SETSOCKOPT, lastFD, unix.SOL_SOCKET, unix.SO_RCVBUF, room(), 4)},
		{"set an option of IP", call(unix.SYS_SETSOCKOPT, lastFD, unix.SOL_IP, unix.UDP_GRO, room(), 4)},
		{"set another option of UDP", call(unix.SYS_SETSOCKOPT, lastFD, unix.SOL_UDP, unix.UDP_ENCAP, room(), 4)},
	}
}

func probesOfKernel() []probe {
	const anonymous = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	return []probe{
		{"io_uring_setup", call(unix.SYS_IO_URING_SETUP, 8, room())},
		{"bpf", call(unix.SYS_BPF, 0, room(), 64)},
		{"userfaultfd", call(unix.SYS_USERFAULTFD, 1)},
		{"perf_event_open", call(unix.SYS_PERF_EVENT_OPEN, room(), 0, 0, ^uintptr(0), 0)},
		{"keyctl", call(unix.SYS_KEYCTL, 0, ^uintptr(2), 0)},
		{"add_key", call(unix.SYS_ADD_KEY, path("user"), path("x"), path("y"), 1, ^uintptr(2))},
		{"map memory to execute", call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, anonymous, ^uintptr(0), 0)},
		{"make memory executable", call(unix.SYS_MPROTECT, 0, 4096, unix.PROT_READ|unix.PROT_EXEC)},
		{"load a filter", call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, room())},
		{"make a ruleset", call(unix.SYS_LANDLOCK_CREATE_RULESET, room(), 8, 0)},
		{"init_module", call(unix.SYS_INIT_MODULE, 0, 0, 0)},
		{"syslog", call(unix.SYS_SYSLOG, 3, room(), 0)},
		{"set the clock", call(unix.SYS_CLOCK_SETTIME, 0, room())},
		{"shmget", call(unix.SYS_SHMGET, 0, 4096, unix.IPC_CREAT)},
		{"mq_open", call(unix.SYS_MQ_OPEN, path("probe"), unix.O_CREAT, 0, 0)},
		{"quotactl", call(unix.SYS_QUOTACTL, 0, 0, 0, 0)},
		{"personality", call(unix.SYS_PERSONALITY, 0xffffffff)},
		{"uname", call(unix.SYS_UNAME, room())},
		{"a call that there is not", call(100000)},
	}
}

func TestChildIsRefusedWhateverItDoesNotNeed(t *testing.T) {
	needRoot(t)
	for parent, attr := range parents {
		t.Run("of "+parent, func(t *testing.T) {
			r := start(t, sandbox.RoleStart, attr).report(t)
			if len(r.Lacking) > 0 {
				t.Errorf("not in force: %v", r.Lacking)
			}
			if len(r.Tried) < 70 {
				t.Errorf("tried only %d things", len(r.Tried))
			}
			for what, got := range r.Tried {
				want := syscall.EPERM.Error()
				if what == "clone3" {
					want = syscall.ENOSYS.Error() // C libraries then use clone, whose flags can be seen
				}
				if got != want {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
			}
		})
	}
	runtime.KeepAlive(kept)
}
