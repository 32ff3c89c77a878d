package sdnotify_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/sdnotify"
)

// roleVariable makes the test binary another program: see TestMain.
const roleVariable = "SDNOTIFY_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "heir": // tells what it has inherited
		tellInheritance()
	case "successor": // as activation does: the process itself is the one that is meant
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		tellInheritance()
	case "testator": // adopts, and leaves to another program in this process
		bequeath()
	}
	os.Exit(0)
}

// tellInheritance prints each descriptor: name, what its file holds, and whether it is closed on exec.
func tellInheritance() {
	all, err := sdnotify.Inherited()
	for _, d := range all {
		content := make([]byte, 16)
		n, _ := d.File.ReadAt(content, 0)
		flags, flagErr := unix.FcntlInt(d.File.Fd(), unix.F_GETFD, 0)
		fmt.Printf("%s:%s:%d:%v\n", d.Name, content[:n], flags, flagErr)
	}
	if err != nil {
		fmt.Println("error:", err)
	}
	again, err := sdnotify.Inherited()
	fmt.Println("again:", len(again), err)
	for _, variable := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "TUND_FDS"} {
		if value, ok := os.LookupEnv(variable); ok {
			fmt.Println("still there:", variable, value)
		}
	}
}

func bequeath() {
	_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	all, err := sdnotify.Inherited()
	if err != nil {
		panic(err)
	}
	variable, _, err := sdnotify.Bequeath(all)
	if err != nil {
		panic(err)
	}
	_ = os.Setenv(roleVariable, "heir")
	panic(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), variable)))
}

// runRole starts this binary in a role with memory files from descriptor 3 on, and returns what it says.
func runRole(t *testing.T, role string, contents []string, env ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	for _, content := range contents {
		f := newMemory(t, content)
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestDescriptorsOfTheManagerAreInherited(t *testing.T) {
	got := runRole(t, "successor", []string{"one", "two", "three"}, "LISTEN_FDS=3", "LISTEN_FDNAMES=control:d1:d1")
	if want := "control:one:1:<nil>\nd1:two:1:<nil>\nd1:three:1:<nil>\nagain: 0 <nil>\n"; got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestDescriptorsForAnotherProcessAreLeftAlone(t *testing.T) {
	got := runRole(t, "heir", []string{"one"}, "LISTEN_FDS=1", "LISTEN_FDNAMES=control", "LISTEN_PID=1")
	if want := "again: 0 <nil>\n"; got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestDescriptorsPassFromOneProgramToTheNextInOneProcess(t *testing.T) {
	got := runRole(t, "testator", []string{"one", "two"}, "LISTEN_FDS=2", "LISTEN_FDNAMES=d1:state")
	if want := "d1:one:1:<nil>\nstate:two:1:<nil>\nagain: 0 <nil>\n"; got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestDescriptorThatIsNotOpenIsAnErrorAndNoneOfTheOthers(t *testing.T) {
	got := runRole(t, "heir", []string{"one"}, "TUND_FDS=d1=3,u1=900")
	want := "d1:one:1:<nil>\nerror: inherit descriptor u1: stat u1: bad file descriptor\nagain: 0 <nil>\n"
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestBequestThatIsNotUnderstoodIsRefused(t *testing.T) {
	for _, text := range []string{
		"d1", "d1=", "=3", "d1=2", "d1=-1", "d1=x", "d1=03", "d1=+3", "d1=3,", ",d1=3", "d1=3,u1=3", "d1=3 ,u1=4", "d1=99999999999",
	} {
		if _, ok := sdnotify.CanBequeath(text); ok {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestBequeathLeavesNothingOpenWhenItFailsOrIsUndone(t *testing.T) {
	a, b := newMemory(t, "a"), newMemory(t, "b")
	flags := func() string {
		x, err := unix.FcntlInt(a.Fd(), unix.F_GETFD, 0)
		y, err2 := unix.FcntlInt(b.Fd(), unix.F_GETFD, 0)
		return fmt.Sprint(x, y, err, err2)
	}
	const closed = "1 1 <nil> <nil>"
	variable, undo, err := sdnotify.Bequeath([]sdnotify.Descriptor{{Name: "d1", File: a}, {Name: "u1", File: b}})
	want := fmt.Sprintf("TUND_FDS=d1=%d,u1=%d", a.Fd(), b.Fd())
	if err != nil || variable != want || flags() != "0 0 <nil> <nil>" {
		t.Errorf("got %q, %v, flags %s; want %q", variable, err, flags(), want)
	}
	undo()
	if flags() != closed {
		t.Errorf("undone: flags %s", flags())
	}
	for _, name := range []string{"", "a=b", "a,b"} {
		if _, _, err := sdnotify.Bequeath([]sdnotify.Descriptor{{Name: name, File: a}}); err == nil || flags() != closed {
			t.Errorf("name %q: %v, flags %s", name, err, flags())
		}
	}
	gone := newMemory(t, "c")
	_ = gone.Close()
	if _, _, err := sdnotify.Bequeath([]sdnotify.Descriptor{{Name: "d1", File: a}, {Name: "d2", File: gone}}); err == nil || flags() != closed {
		t.Errorf("closed file: %v, flags %s", err, flags())
	}
}

func FuzzBequest(f *testing.F) {
	for _, text := range []string{"", "d1=17,u1=18,state=23", "d1=3,", "d1=03", strings.Repeat("d=3,", 9)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if again, ok := sdnotify.CanBequeath(text); ok && again != text {
			t.Errorf("%q was taken for %q", text, again)
		}
	})
}
