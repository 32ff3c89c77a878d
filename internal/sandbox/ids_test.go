package sandbox_test

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/sandbox"
)

// keptVariable lists the capabilities that a child's first stage begins with, as a container may
// leave them to root: numbers, separated by commas. Not set: all that there are.
const keptVariable = "TUND_TEST_CAPABILITIES"

// forgo takes all but some capabilities from this process, as keptVariable says.
func forgo(kept string) {
	if kept == "" {
		return
	}
	var mask [2]unix.CapUserData
	for word := range strings.SplitSeq(kept, ",") {
		c, err := strconv.Atoi(word)
		if err != nil {
			fail(err)
		}
		mask[c/32].Permitted |= 1 << (c % 32)
		mask[c/32].Effective |= 1 << (c % 32)
	}
	for c := range uintptr(41) {
		if mask[c/32].Permitted>>(c%32)&1 == 0 {
			_, _, _ = syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &mask[0]); err != nil {
		fail(err)
	}
}

func capabilities(all ...int) string {
	var words []string
	for _, c := range all {
		words = append(words, strconv.Itoa(c))
	}
	return strings.Join(words, ",")
}

const user, group = "user root", "group root"

// Whatever a container leaves to root, the child has no capability, and of root's ids only
// what could not be given up; and it says so.
func TestChildGivesUpOfRootWhatItsParentMay(t *testing.T) {
	needRoot(t)
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	many := append(slices.Clone(one), syscall.SysProcIDMap{ContainerID: 1, HostID: 100_000, Size: 65_535})
	few := append(slices.Clone(one), syscall.SysProcIDMap{ContainerID: 1, HostID: 100_000, Size: 10}) // not the account's
	namespace := func(ids []syscall.SysProcIDMap, groups bool) *syscall.SysProcAttr {
		return &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: groups,
		}
	}
	for _, tt := range []struct {
		name     string
		kept     string
		attr     *syscall.SysProcAttr
		says     string // "": it keeps nothing
		uid, gid bool   // it is not root
	}{
		{"all", "", nil, "", true, true},
		{"net_admin", capabilities(unix.CAP_NET_ADMIN), nil, user, false, false},
		{"net_admin and setuid", capabilities(unix.CAP_NET_ADMIN, unix.CAP_SETUID), nil, group, true, false},
		{"net_admin and setgid", capabilities(unix.CAP_NET_ADMIN, unix.CAP_SETGID), nil, user, false, true},
		{"no setpcap", capabilities(unix.CAP_NET_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID), nil, "", true, true},
		{"a user namespace of one id", "", namespace(one, false), user, false, false},
		{"a user namespace of few ids", "", namespace(few, true), user, false, false},
		{"a user namespace of many ids", "", namespace(many, true), "", true, true},
		{"a user namespace that refuses groups", "", namespace(many, false), "", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(keptVariable, tt.kept)
			s := start(t, sandbox.RoleStart, tt.attr)
			r := s.report(t)
			if (tt.says == "") != (r.User == "<nil>") || !strings.Contains(r.User, tt.says) {
				t.Errorf("it says that it kept %q, want %q", r.User, tt.says)
			}
			if (r.UID != 0) != tt.uid || (r.GID != 0) != tt.gid {
				t.Errorf("user %d, group %d", r.UID, r.GID)
			}
			if len(r.Lacking) != 0 {
				t.Errorf("lacks %q", r.Lacking)
			}
			checkThreads(t, s, []string{"CapInh", "CapPrm", "CapEff", "CapAmb"})
			for what, got := range r.Tried {
				if got == "" {
					t.Errorf("%s: allowed", what)
				}
			}
		})
	}
}

// policyVariable is the scheduling policy that a child's first stage gives itself, as a service manager
// does.
const policyVariable = "TUND_TEST_POLICY"

func choosePolicy(word string) {
	if word == "" {
		return
	}
	policy, err := strconv.Atoi(word)
	if err != nil {
		fail(err)
	}
	// The thread that executes the second stage.
	runtime.LockOSThread()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: uint32(policy), Priority: 1}, 0); err != nil {
		fail(err)
	}
}
