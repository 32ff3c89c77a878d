package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/sandbox"
)

const (
	fdIn, fdOut, lastFD = 3, 4, 6
	name                = "alpha"

	leakyStart = "leaky-start" // a first stage that passes on one descriptor too many

	behaviourVariable = "TUND_TEST_BEHAVIOUR"
)

// environment is what keeps the runtime from opening descriptors of its own.
var environment = []string{"GODEBUG=containermaxprocs=0", "GOGC=off", "GOMEMLIMIT=64MiB"}

// TestMain lets the test binary play both stages of a child.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case sandbox.RoleStart:
		forgo(os.Getenv(keptVariable))
		choosePolicy(os.Getenv(policyVariable))
		fail(sandbox.Drop(lastFD, []string{"tund", sandbox.Role, name}, os.Environ()))
	case leakyStart:
		fail(sandbox.Drop(lastFD+1, []string{"tund", sandbox.Role, name}, os.Environ()))
	case sandbox.Role:
		if err := sandbox.Enter(name, lastFD); err != nil {
			fail(err)
		}
		child(os.Getenv(behaviourVariable))
	default:
		os.Exit(m.Run())
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A report is what a child finds when it tries its bounds from inside.
type report struct {
	Dumpable, NoNewPrivs int
	UID, GID             int
	Groups               []int
	User                 string            // what it has kept of root
	Lacking              []string          // parts of the sandbox that are not in force
	Tried                map[string]string // what each probe got; "": it was allowed
}

// child does what its behaviour says, writes its report to the pipe out, and waits until the
// pipe in is closed.
func child(behaviour string) {
	out := os.NewFile(fdOut, "out")
	stop, err := sandbox.NewHangup(sandbox.FDStop)
	if err != nil {
		fail(err)
	}
	r := inspect()
	prepare(behaviour)
	c, err := sandbox.Confine(lastFD)
	if err != nil {
		fail(err)
	}
	r.User = fmt.Sprint(c.User)
	for _, lacking := range []error{c.Landlock, c.Seccomp} {
		if lacking != nil {
			r.Lacking = append(r.Lacking, lacking.Error())
		}
	}
	r.Tried = behave(behaviour)
	text, err := json.Marshal(r)
	if err != nil {
		fail(err)
	}
	if _, err := out.Write(append(text, '\n')); err != nil {
		fail(err)
	}
	alarm := sandbox.NewAlarm()
	go alarm.Run() // ends with the process
	alarm.Reset(time.Millisecond)
	<-alarm.C()
	_, _ = io.Copy(io.Discard, stop.Reader(fdIn))
	os.Exit(0)
}

// inspect looks at what is not to be seen any more in a closed sandbox.
func inspect() report {
	var r report
	r.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	r.NoNewPrivs, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	r.UID, r.GID = os.Getuid(), os.Getgid()
	r.Groups, _ = os.Getgroups()
	return r
}

// A started child, and the parent's ends of its pipes.
type started struct {
	cmd *exec.Cmd
	in  *os.File
	out *json.Decoder
	log strings.Builder
}

// start starts a child in the given role; files above lastFD are leaked to it on purpose.
func start(t *testing.T, role string, attr *syscall.SysProcAttr, leaked ...*os.File) *started {
	t.Helper()
	return startAs(t, role, probing, attr, leaked...)
}

// startAs starts a child that has a behaviour, see behave.
func startAs(t testing.TB, role, behaviour string, attr *syscall.SysProcAttr, leaked ...*os.File) *started {
	t.Helper()
	inRead, inWrite := pipe(t)
	outRead, outWrite := pipe(t)
	device, socket := pipe(t)
	s := &started{cmd: exec.Command("/proc/self/exe"), in: inWrite, out: json.NewDecoder(outRead)}
	s.cmd.Args = []string{"tund", role, name}
	s.cmd.Env = append(slices.Clone(environment), behaviourVariable+"="+behaviour)
	for _, name := range []string{keptVariable, policyVariable} {
		if value, ok := os.LookupEnv(name); ok {
			s.cmd.Env = append(s.cmd.Env, name+"="+value)
		}
	}
	s.cmd.Dir = "/"
	s.cmd.SysProcAttr = attr
	s.cmd.Stderr = &s.log
	s.cmd.ExtraFiles = append([]*os.File{inRead, outWrite, device, socket}, leaked...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	for _, f := range []*os.File{inRead, outWrite} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// report waits for the child's.
func (s *started) report(t testing.TB) report {
	t.Helper()
	var r report
	if err := s.out.Decode(&r); err != nil {
		_ = s.cmd.Wait()
		t.Fatalf("%v; %s", err, s.log.String())
	}
	return r
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func (s *started) proc(path string) string {
	return filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), path)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives privileges to a child and looks into an undumpable one")
	}
}

// parents are the privileges with which tund may run.
var parents = map[string]*syscall.SysProcAttr{
	"root": {},
	"an unprivileged user with an ambient capability": {
		Credential:  &syscall.Credential{Uid: 64321, Gid: 64321, Groups: []uint32{64321}},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
	},
}

func TestChildHasNoPrivilegeAndNoWayBack(t *testing.T) {
	needRoot(t)
	for parent, attr := range parents {
		t.Run("of "+parent, func(t *testing.T) {
			s := start(t, sandbox.RoleStart, attr)
			r := s.report(t)
			if r.Dumpable != 0 || r.NoNewPrivs != 1 {
				t.Errorf("dumpable %d, no_new_privs %d", r.Dumpable, r.NoNewPrivs)
			}
			if r.User != "<nil>" || r.UID == 0 || r.GID == 0 || slices.Contains(r.Groups, 0) {
				t.Errorf("user %d, group %d, groups %v", r.UID, r.GID, r.Groups)
			}
			if attr.Credential == nil && len(r.Groups) != 0 {
				t.Errorf("has groups %v", r.Groups)
			}
			sets := []string{"CapInh", "CapPrm", "CapEff", "CapAmb"}
			if attr.Credential == nil {
				sets = append(sets, "CapBnd")
			}
			checkThreads(t, s, sets)
		})
	}
}

// checkThreads reads from outside what each thread of the child has.
func checkThreads(t *testing.T, s *started, sets []string) {
	t.Helper()
	threads, err := filepath.Glob(s.proc("task/*/status"))
	if err != nil || len(threads) < 2 {
		t.Fatalf("found %d threads, %v", len(threads), err)
	}
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range sets {
			if !strings.Contains(string(status), set+":\t0000000000000000\n") {
				t.Errorf("%s: %s is not empty:\n%s", path, set, status)
			}
		}
		for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
			if !strings.Contains(string(status), want) {
				t.Errorf("%s: not %s%s", path, want, status)
			}
		}
	}
}

func TestChildHasExactlyItsDescriptors(t *testing.T) {
	needRoot(t)
	leak, _ := pipe(t)
	s := start(t, sandbox.RoleStart, nil, leak, leak)
	s.report(t)
	for range 20 { // a while, for what the runtime does later
		time.Sleep(10 * time.Millisecond)
		entries, err := os.ReadDir(s.proc("fd"))
		if err != nil {
			t.Fatal(err)
		}
		var open []string
		for _, e := range entries {
			open = append(open, e.Name())
		}
		slices.Sort(open)
		if got := strings.Join(open, " "); got != "0 1 2 3 4 5 6" {
			for _, e := range entries {
				target, _ := os.Readlink(filepath.Join(s.proc("fd"), e.Name()))
				t.Logf("%s -> %s", e.Name(), target)
			}
			t.Fatalf("descriptors are %s", got)
		}
	}
}

func TestChildIsSeenByItsPeersName(t *testing.T) {
	needRoot(t)
	s := start(t, sandbox.RoleStart, nil)
	s.report(t)
	for path, want := range map[string]string{"cmdline": "tund\x00datapath\x00alpha\x00", "comm": "tund: alpha\n"} {
		got, err := os.ReadFile(s.proc(path))
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", path, got, err)
		}
	}
}

func TestChildEndsWhenItsPipeIsClosed(t *testing.T) {
	needRoot(t)
	s := start(t, sandbox.RoleStart, nil)
	s.report(t)
	if err := s.in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("%v; %s", err, s.log.String())
	}
}

func TestSecondStageRefusesPrivileges(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name, want string
		attr       *syscall.SysProcAttr
	}{
		{"of root", "has capabilities", nil},
		{"of an ambient capability", "has capabilities", &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: 64321, Gid: 64321},
			AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
		}},
		{"that could be gained", "may gain privileges", &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: 64321, Gid: 64321},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, sandbox.Role, tt.attr)
			if err := s.cmd.Wait(); err == nil {
				t.Error("it ran")
			}
			if got := s.log.String(); !strings.Contains(got, tt.want) {
				t.Errorf("said %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSecondStageRefusesToStartWithoutItsDescriptors(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"tund", sandbox.RoleStart, name}
	cmd.Env = environment
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "descriptor 3") {
		t.Errorf("%v; %s", err, out)
	}
}

func TestSecondStageRefusesFurtherDescriptors(t *testing.T) {
	needRoot(t)
	leak, _ := pipe(t)
	s := start(t, leakyStart, nil, leak)
	if err := s.cmd.Wait(); err == nil {
		t.Error("it ran")
	}
	if got := s.log.String(); !strings.Contains(got, "descriptor 7 is open") {
		t.Errorf("said %q", got)
	}
}

func TestProtectMakesAProcessUndumpable(t *testing.T) {
	before, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(before), 0, 0, 0) })
	if err := sandbox.Protect(); err != nil {
		t.Fatal(err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("core limit %+v, %v", core, err)
	}
	if got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); got != 0 || err != nil {
		t.Errorf("dumpable %d, %v", got, err)
	}
	if err := exec.Command("/proc/self/exe", "-test.run=^$").Run(); err != nil {
		t.Errorf("an undumpable process cannot start itself: %v", err)
	}
}
