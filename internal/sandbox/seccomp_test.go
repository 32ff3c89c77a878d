package sandbox_test

import (
	"encoding/binary"
	"runtime"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"tund/internal/sandbox"
)

// The filters, run here as the kernel runs them: with any call, on no process.

const pid = 157 // also the number of a system call, prctl of amd64

// verdict is what the kernel makes of a call: all filters are asked, and the
// strictest answer counts, 0 for a call that is made.
func verdict(t *testing.T, filters []*bpf.VM, id arch.AuditArch, number uint32, args ...uint64) unix.Errno {
	t.Helper()
	const allow, errno = 0x7fff0000, 0x00050000
	worst := allow
	for _, f := range filters {
		// The kernel's words are of its own byte order, this machine's loads big-endian.
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data, number)
		binary.BigEndian.PutUint32(data[4:], uint32(id))
		for i, a := range args {
			binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
			binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
		}
		got, err := f.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		worst = min(worst, got)
	}
	if worst == allow {
		return 0
	}
	if worst&^0xffff != errno {
		t.Fatalf("answer %#x", worst)
	}
	return unix.Errno(worst & 0xffff)
}

func filters(t *testing.T) []*bpf.VM {
	t.Helper()
	programs, err := sandbox.Programs(pid)
	if err != nil {
		t.Fatal(err)
	}
	var all []*bpf.VM
	for _, p := range programs {
		vm, err := bpf.NewVM(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, vm)
	}
	return all
}

func TestEveryAllowedCallExistsOnEveryArchitecture(t *testing.T) {
	for goarch, table := range map[string]*arch.Info{"amd64": arch.X86_64, "arm64": arch.AARCH64} {
		names := sandbox.Calls(goarch)
		for _, name := range names {
			if _, ok := table.SyscallNames[name]; !ok {
				t.Errorf("%s has no call %s", goarch, name)
			}
		}
		if slices.Sort(names); len(slices.Compact(names)) < len(sandbox.Calls(goarch)) {
			t.Errorf("%s: a name stands twice", goarch)
		}
	}
}

// normal is the policy that a thread of a child may give itself.
const normal = unix.SCHED_NORMAL | unix.SCHED_RESET_ON_FORK

// Calls that depend on their arguments, each with ones that are allowed.
var good = map[string][]uint64{
	"clone": {unix.CLONE_THREAD}, "tgkill": {pid}, "prctl": {0x53564d41}, "setsockopt": {6, unix.SOL_UDP, unix.UDP_GRO},
	"sched_setscheduler": {0, normal},
}

func TestFiltersRefuseWhatIsNotOnTheList(t *testing.T) {
	info, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	all := filters(t)
	allowed := sandbox.Calls(runtime.GOARCH)
	for number := range uint32(1024) {
		name, want := info.SyscallNumbers[int(number)], unix.EPERM
		switch {
		case name == "clone3":
			want = unix.ENOSYS
		case slices.Contains(allowed, name):
			want = 0
		}
		if got := verdict(t, all, info.ID, number, good[name]...); got != want {
			t.Errorf("%d %s: %v, want %v", number, name, got, want)
		}
	}
	for _, number := range []uint32{1 << 16, 1 << 30, 1<<30 | 1, 1 << 31, 1<<32 - 1} { // also those of other ways to call
		if got := verdict(t, all, info.ID, number); got != unix.EPERM && got != unix.ENOSYS {
			t.Errorf("%#x: %v", number, got)
		}
	}
	for _, name := range allowed {
		if got := verdict(t, all, arch.ARM.ID, uint32(info.SyscallNames[name]), good[name]...); got != unix.EPERM {
			t.Errorf("%s in the way of another architecture: %v", name, got)
		}
	}
}

func TestFiltersLookAtArguments(t *testing.T) {
	info, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	const high = 1 << 32
	all := filters(t)
	for _, tt := range []struct {
		call string
		want unix.Errno
		args []uint64
	}{
		{"clone", 0, []uint64{0x3d0f00}}, // the C library's flags of a thread
		{"clone", 0, []uint64{0x50f00}},  // and Go's
		{"clone", unix.EPERM, []uint64{0}},
		{"clone", unix.EPERM, []uint64{uint64(unix.SIGCHLD)}},
		{"clone", unix.EPERM, []uint64{unix.CLONE_VM | unix.CLONE_VFORK}},
		{"clone", unix.EPERM, []uint64{high * unix.CLONE_THREAD}},
		{"clone", unix.EPERM, []uint64{unix.CLONE_THREAD | unix.CLONE_NEWUSER}},
		{"clone", unix.EPERM, []uint64{unix.CLONE_THREAD | unix.CLONE_NEWNET}},
		{"tgkill", 0, []uint64{pid, pid, 9}},
		{"tgkill", unix.EPERM, []uint64{pid + 1, pid, 9}},
		{"tgkill", unix.EPERM, []uint64{pid + high, pid, 9}},
		{"tgkill", unix.EPERM, []uint64{0, pid, 9}},
		{"mmap", 0, []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}},
		{"mmap", 0, []uint64{unix.PROT_EXEC, unix.PROT_EXEC, unix.PROT_NONE, unix.PROT_EXEC}},
		{"mmap", unix.EPERM, []uint64{0, 4096, unix.PROT_EXEC}},
		{"mmap", unix.EPERM, []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC}},
		{"mprotect", 0, []uint64{0, 4096, unix.PROT_READ}},
		{"mprotect", unix.EPERM, []uint64{0, 4096, unix.PROT_EXEC}},
		{"prctl", unix.EPERM, []uint64{unix.PR_SET_DUMPABLE, 1}},
		{"prctl", unix.EPERM, []uint64{unix.PR_SET_MM}},
		{"sched_getscheduler", 0, []uint64{0}},
		{"sched_getscheduler", unix.EPERM, []uint64{pid}},
		{"sched_setscheduler", 0, []uint64{0, normal}},
		{"sched_setscheduler", unix.EPERM, []uint64{pid, normal}},
		{"sched_setscheduler", unix.EPERM, []uint64{high, normal}},
		{"sched_setscheduler", unix.EPERM, []uint64{0, unix.SCHED_RR}},
		{"sched_setscheduler", unix.EPERM, []uint64{0, normal | unix.SCHED_RR}},
		{"sched_setscheduler", unix.EPERM, []uint64{0, high | normal}},
		{"sendto", 0, []uint64{6, 1, 1, 0, 0, 0}},
		{"sendto", unix.EPERM, []uint64{6, 1, 1, 0, 1, 16}},
		{"sendto", unix.EPERM, []uint64{6, 1, 1, 0, high, 16}},
		{"setsockopt", unix.EPERM, []uint64{6, unix.SOL_SOCKET, unix.UDP_GRO}},
		{"setsockopt", unix.EPERM, []uint64{6, unix.SOL_UDP, unix.UDP_ENCAP}},
	} {
		number := uint32(info.SyscallNames[tt.call])
		if got := verdict(t, all, info.ID, number, tt.args...); got != tt.want {
			t.Errorf("%s(%#x): %v, want %v", tt.call, tt.args, got, tt.want)
		}
	}
}

// A filter that goes on to the next call with an argument in the place of the call's number
// lets through what looks like another one.
func TestArgumentIsNeverTakenForACall(t *testing.T) {
	info, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	all := filters(t)
	for _, name := range []string{"clone", "tgkill", "prctl", "setsockopt", "sched_getscheduler", "sched_setscheduler"} {
		for _, other := range sandbox.Calls(runtime.GOARCH) {
			number := uint64(info.SyscallNames[other])
			if number == pid && name == "tgkill" || number == 0 && name == "sched_getscheduler" {
				continue // it is allowed for another reason
			}
			for _, rest := range [][]uint64{{0, 0}, {pid, 0}, {unix.SOL_UDP, number}} {
				args := append([]uint64{number}, rest...)
				if got := verdict(t, all, info.ID, uint32(info.SyscallNames[name]), args...); got != unix.EPERM {
					t.Errorf("%s(%d, %d), as if it was %s: %v", name, number, rest, other, got)
				}
			}
		}
	}
}
