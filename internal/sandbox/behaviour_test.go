package sandbox_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/sandbox"
)

// The behaviours of a child.
const (
	probing   = "probing"    // tries whatever it must not do
	working   = "working"    // does what the Go runtime does in a long life
	panicking = "panicking"  // has a mistake
	faulting  = "faulting"   // reads where no memory is
	greedy    = "greedy"     // takes all memory it can get
	restless  = "restless"   // has a thread that never sleeps
	old       = "old"        // runs on a kernel with neither Landlock nor seccomp
	landlock  = "landlocked" // leaves out the filter of system calls
	timing    = "timing"     // measures system calls before and after the sandbox is closed
)

// prepare does what a behaviour needs before the sandbox is closed.
func prepare(behaviour string) {
	switch behaviour {
	case old:
		for _, name := range []string{"landlock_create_ruleset", "seccomp"} {
			if err := sandbox.Refuse(name, unix.ENOSYS); err != nil {
				fail(err)
			}
		}
	case landlock:
		if err := sandbox.Refuse("seccomp", unix.EACCES); err != nil {
			fail(err)
		}
	case timing:
		open = timeCalls()
	}
}

// behave does it in the closed sandbox, and returns what each thing tried has got: "" if
// it was allowed.
func behave(behaviour string) map[string]string {
	switch behaviour {
	case probing:
		return try(probes())
	case working:
		return map[string]string{"work": work()}
	case landlock:
		return tryOnThreads()
	case timing:
		return compare(open, timeCalls())
	case restless:
		return map[string]string{"thread": spin()}
	case panicking:
		panic("a mistake")
	case faulting:
		*nothing = 1
	case greedy:
		for range 32 {
			hoard = append(hoard, make([]byte, 64<<20))
		}
	}
	return nil
}

var (
	hoard   [][]byte
	nothing *int
	open    map[string]time.Duration // what calls took before
)

// spin returns the id of the thread.
func spin() string {
	id := make(chan int)
	go func() { // ends with the process
		runtime.LockOSThread()
		var all unix.Sigset_t
		for i := range all.Val {
			all.Val[i] = ^all.Val[i]
		}
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil); err != nil { // or the runtime preempts it
			panic(err)
		}
		id <- unix.Gettid()
		for n := 0; ; n++ {
			runtime.KeepAlive(n)
		}
	}()
	return strconv.Itoa(<-id)
}

func try(probes []probe) map[string]string {
	tried := map[string]string{}
	for _, p := range probes {
		tried[p.what] = text(p.try())
	}
	return tried
}

// timed are two calls: one as the packet path makes, and one whose arguments are looked at.
var timed = []probe{
	{"ppoll", call(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&unix.Timespec{})), 0, 0)},
	{"tgkill", call(unix.SYS_TGKILL, uintptr(os.Getpid()), 1<<30, 0)}, // of no thread
}

// timeCalls returns the best of some rounds, for other programs disturb.
func timeCalls() map[string]time.Duration {
	const rounds, calls = 20, 20_000
	best := map[string]time.Duration{}
	for range rounds {
		for _, p := range timed {
			began := time.Now()
			for range calls {
				_ = p.try()
			}
			if took := time.Since(began) / calls; best[p.what] == 0 || took < best[p.what] {
				best[p.what] = took
			}
		}
	}
	return best
}

func compare(before, after map[string]time.Duration) map[string]string {
	texts := map[string]string{}
	for what := range before {
		texts[what] = fmt.Sprintf("%d %d", before[what], after[what])
	}
	return texts
}

// BenchmarkFilteredCalls reports what system calls take before and after the sandbox is closed.
func BenchmarkFilteredCalls(b *testing.B) {
	for b.Loop() {
		for what, text := range startAs(b, sandbox.RoleStart, timing, nil).report(b).Tried {
			var before, after float64
			if _, err := fmt.Sscan(text, &before, &after); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(before, what+"-open-ns")
			b.ReportMetric(after, what+"-closed-ns")
		}
	}
}

// work makes the runtime start threads, use its timers and poller, collect garbage, give
// memory back, and preempt what runs.
func work() string {
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread ends, too
			pause := unix.NsecToTimespec(int64(20 * time.Millisecond))
			err := error(unix.EINTR)
			for errors.Is(err, unix.EINTR) { // the runtime preempts by signals
				err = unix.Nanosleep(&pause, &pause)
			}
			if err != nil {
				panic(err)
			}
		})
	}
	for i := range 200 {
		garbage := make([]byte, 1<<20)
		garbage[i] = byte(i)
		if i%40 == 39 {
			runtime.GC() // or a busy machine may fall behind, and the race detector has no room for all
		}
	}
	busy := time.Now()
	group.Go(func() {
		for n := 0; time.Since(busy) < 50*time.Millisecond; n++ {
			runtime.KeepAlive(n)
		}
	})
	runtime.GC()
	group.Wait()
	time.Sleep(10 * time.Millisecond)
	if _, err := rand.Read(make([]byte, 1000)); err != nil {
		return err.Error()
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if after.NumGC < 2 {
		return "no garbage was collected"
	}
	return ""
}

// tryOnThreads tries the same on many threads, old and new.
func tryOnThreads() map[string]string {
	var mu sync.Mutex
	var group sync.WaitGroup
	all := map[string]string{}
	for range 20 {
		group.Go(func() {
			runtime.LockOSThread()
			tried := try(probesOfAccess())
			mu.Lock()
			defer mu.Unlock()
			for what, got := range tried {
				if seen, ok := all[what]; ok && seen != got {
					got += " and " + seen
				}
				all[what] = got
			}
		})
	}
	group.Wait()
	return all
}

// probesOfAccess are what Landlock refuses, and what it shall not refuse.
func probesOfAccess() []probe {
	parent, self := uintptr(os.Getppid()), uintptr(os.Getpid())
	return []probe{
		{"open /", call(unix.SYS_OPENAT, here, path("/"), unix.O_RDONLY|unix.O_DIRECTORY)},
		{"open /etc/passwd", call(unix.SYS_OPENAT, here, path("/etc/passwd"), unix.O_RDONLY)},
		{"open its own status", call(unix.SYS_OPENAT, here, path("/proc/self/status"), unix.O_RDONLY)},
		{"make a file", call(unix.SYS_OPENAT, here, path("/tmp/tund-probe"), unix.O_RDWR|unix.O_CREAT, 0o600)},
		{"signal the parent", call(unix.SYS_KILL, parent, 0)},
		{"trace the parent", call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, parent, 0, 0)},
		{"signal another thread", call(unix.SYS_TGKILL, self, self, uintptr(unix.SIGURG))},
	}
}

func TestLandlockRefusesFilesAndSignalsToEveryThread(t *testing.T) {
	needRoot(t)
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64321, Gid: 64321}}
	asParent(t, 64321)
	r := startAs(t, sandbox.RoleStart, landlock, attr).report(t)
	if got := strings.Join(r.Lacking, "; "); got != "refused: permission denied" {
		t.Fatalf("not in force: %s", got)
	}
	for what, want := range map[string]syscall.Errno{
		"open /": unix.EACCES, "open /etc/passwd": unix.EACCES, "open its own status": unix.EACCES, "make a file": unix.EACCES,
		"signal the parent": unix.EPERM, "trace the parent": unix.EPERM, "signal another thread": 0,
	} {
		if got := r.Tried[what]; got != text(want) {
			t.Errorf("%s: %q, want %q", what, got, text(want))
		}
	}
}

// asParent gives this process the effective user of a child for the time of a test, so
// that it may be signalled by it.
func asParent(t *testing.T, uid int) {
	t.Helper()
	if err := syscall.Setresuid(uid, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setresuid(0, 0, 0); err != nil {
			t.Error(err)
		}
	})
}

func TestChildSaysWhatItsKernelLacksAndGoesOn(t *testing.T) {
	needRoot(t)
	r := startAs(t, sandbox.RoleStart, old, nil).report(t)
	const want = "the kernel has none; the kernel has none"
	if got := strings.Join(r.Lacking, "; "); got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestClosedSandboxLetsTheRuntimeWork(t *testing.T) {
	needRoot(t)
	s := startAs(t, sandbox.RoleStart, working, nil)
	if got := s.report(t).Tried["work"]; got != "" {
		t.Error(got)
	}
	if err := s.in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("%v; %s", err, s.log.String())
	}
}

func TestCrashInAClosedSandboxPrintsItsTrace(t *testing.T) {
	needRoot(t)
	for behaviour, want := range map[string][]string{
		panicking: {"panic: a mistake", "goroutine 1 [running]", "behaviour_test.go"},
		faulting:  {"nil pointer dereference", "goroutine 1 [running]", "behaviour_test.go"},
	} {
		s := startAs(t, sandbox.RoleStart, behaviour, nil)
		_ = s.cmd.Wait()
		if got := s.cmd.ProcessState.ExitCode(); got != 2 {
			t.Errorf("%s: ended with %s", behaviour, s.cmd.ProcessState)
		}
		for _, text := range want {
			if !strings.Contains(s.log.String(), text) {
				t.Errorf("%s: no %q in %s", behaviour, text, s.log.String())
			}
		}
	}
}

func TestGreedyChildDies(t *testing.T) {
	needRoot(t)
	s := startAs(t, sandbox.RoleStart, greedy, nil)
	if err := s.cmd.Wait(); err == nil {
		t.Error("it got 2 GiB")
	}
	if got := s.log.String(); !strings.Contains(got, "out of memory") && !strings.Contains(got, "failed to allocate") { // by the race detector
		t.Errorf("it said %s", got)
	}
}

// A thread with real-time priority that never sleeps would keep a processor from all others.
func TestRestlessChildWithPriorityDies(t *testing.T) {
	needRoot(t)
	s := startAs(t, sandbox.RoleStart, restless, nil)
	thread, err := strconv.Atoi(s.report(t).Tried["thread"])
	if err != nil {
		t.Fatal(err)
	}
	lowest := int32(1)
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(thread), unix.SCHED_RR|unix.SCHED_RESET_ON_FORK,
		uintptr(unsafe.Pointer(&lowest)))
	if errno != 0 {
		t.Fatal(errno)
	}
	_ = s.cmd.Wait() // or the test hangs
	if end, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || end.Signal() != unix.SIGKILL {
		t.Errorf("ended with %s", s.cmd.ProcessState)
	}
}

// Where somebody has chosen such a priority for all of tund, the loops may have to run for long.
func TestChildWithAPriorityOfSomebodysChoiceMayBeRestless(t *testing.T) {
	needRoot(t)
	t.Setenv(policyVariable, strconv.Itoa(unix.SCHED_RR))
	s := start(t, sandbox.RoleStart, nil)
	s.report(t)
	shown, err := os.ReadFile(s.proc("limits"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(shown)) {
		if name := "Max realtime timeout"; strings.HasPrefix(line, name) && len(strings.Fields(line)) > 3 && strings.Fields(line)[3] != "unlimited" {
			t.Error(line)
		}
	}
}

func TestRefusedCallIsInTheKernelsLog(t *testing.T) {
	needRoot(t)
	logged, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_logged")
	if err != nil || !strings.Contains(string(logged), "errno") {
		t.Skipf("this machine does not log refused calls: %q, %v", logged, err)
	}
	for range 15 { // the kernel leaves out what comes too often
		if kernelSays(t, "type=1326", func() string {
			s := start(t, sandbox.RoleStart, nil)
			s.report(t)
			return " pid=" + strconv.Itoa(s.cmd.Process.Pid) + " "
		}) {
			return
		}
		time.Sleep(time.Second)
	}
	t.Error("not found")
}

// kernelSays tells if the kernel logs a line with a text and what do returns.
func kernelSays(t *testing.T, text string, do func() string) bool {
	t.Helper()
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("cannot read the kernel's log: %v", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	who := do()
	line := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, line)
		if errors.Is(err, unix.EPIPE) {
			continue // overwritten before it was read
		}
		if err != nil || n == 0 {
			return false
		}
		if s := string(line[:n]); strings.Contains(s, text) && strings.Contains(s, who) {
			return true
		}
	}
}

func TestSignalEndsAClosedSandbox(t *testing.T) {
	needRoot(t)
	for _, signal := range []syscall.Signal{unix.SIGTERM, unix.SIGQUIT, unix.SIGKILL} {
		s := startAs(t, sandbox.RoleStart, working, nil)
		s.report(t)
		if err := s.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = s.cmd.Wait()
		end, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
		byItself := signal == unix.SIGQUIT && end.ExitStatus() == 2 && strings.Contains(s.log.String(), "goroutine ")
		if !ok || (end.Signal() != signal && !byItself) {
			t.Errorf("%v: ended with %s; %s", signal, s.cmd.ProcessState, s.log.String())
		}
	}
}

func TestChildHasLimits(t *testing.T) {
	needRoot(t)
	s := start(t, sandbox.RoleStart, nil)
	s.report(t)
	shown, err := os.ReadFile(s.proc("limits"))
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string]string{}
	for line := range strings.Lines(string(shown)) {
		if len(line) > 66 {
			limits[strings.TrimSpace(line[:26])] = strings.Join(strings.Fields(line[26:66]), " ")
		}
	}
	for name, want := range map[string]string{
		"Max open files": "9 9", "Max file size": "0 0", "Max locked memory": "0 0", "Max core file size": "0 0",
		"Max msgqueue size": "0 0", "Max realtime timeout": "1000000 1000000",
		"Max processes": "18432 18432",
	} {
		if limits[name] != want {
			t.Errorf("%s: %q, want %q\n%s", name, limits[name], want, shown)
		}
	}
	if data := limits["Max data size"]; data == "" || strings.Contains(data, "unlimited") {
		t.Errorf("Max data size: %q", data)
	}
}
