package ctl

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Groups that every Linux system has stand in for tund-status and tund-admin.
const (
	readers = "daemon"
	admins  = "sys"
	// roleVariable makes the test binary a client that runs as somebody else.
	roleVariable = "CTL_TEST_CLIENT"
	stranger     = 54321
)

func TestMain(m *testing.M) {
	if path := os.Getenv(roleVariable); path != "" {
		os.Exit(otherUser(path))
	}
	os.Exit(m.Run())
}

// otherUser asks for a read and a write, and prints how each ended.
func otherUser(path string) int {
	client := NewClient(path, 0)
	_, err := client.Status(context.Background())
	_, _ = os.Stdout.WriteString(outcome(err) + " ")
	_, err = client.Up(context.Background(), "beta")
	_, _ = os.Stdout.WriteString(outcome(err))
	return 0
}

func outcome(err error) string {
	var answer *Error
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, fs.ErrPermission):
		return "no-socket"
	case errors.As(err, &answer):
		return string(answer.Code)
	default:
		return err.Error()
	}
}

func TestAccessDependsOnWhoCalls(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	dir := openDir(t)
	s := serveAt(t, filepath.Join(dir, "tund.sock"), new(fakeBackend), patient())
	exe := copyOfTest(t, dir)
	callers := []otherCaller{
		{"root", 0, 0, nil, "done done"},
		{"in neither group", stranger, stranger, nil, "no-socket no-socket"},
		{"may read", stranger, stranger, []uint32{groupID(t, readers)}, "done forbidden"},
		{"may read by its first group", stranger, groupID(t, readers), nil, "done forbidden"},
		{"may write", stranger, stranger, []uint32{groupID(t, admins)}, "done done"},
		{"may write by its first group", stranger, groupID(t, admins), nil, "done done"},
		{"in both groups", stranger, groupID(t, admins), []uint32{groupID(t, readers)}, "done done"},
		{"in many groups", stranger, stranger, append(manyGroups(60), groupID(t, readers), groupID(t, admins)), "done done"},
	}
	wantAccess(t, exe, s.path, callers)
	if log := s.log.String(); !strings.Contains(log, "control request not permitted\" uid="+strconv.Itoa(stranger)) {
		t.Errorf("no refusal in the log: %s", log)
	}
}

// A socket that systemd has made gets the same groups; who got through it all the same is refused.
func TestAccessToASocketOfAnotherMaker(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	dir := openDir(t)
	exe := copyOfTest(t, dir)
	for mode, unknown := range map[os.FileMode]string{0o600: "no-socket no-socket", 0o660: "no-socket no-socket", 0o666: "forbidden forbidden"} {
		path := filepath.Join(dir, mode.String())
		socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		s := serveOptions(t, Options{Path: path, Backend: new(fakeBackend), Socket: socket}, patient())
		wantAccess(t, exe, s.path, []otherCaller{
			{"in neither group", stranger, stranger, nil, unknown},
			{"may read", stranger, groupID(t, readers), nil, "done forbidden"},
			{"may write", stranger, groupID(t, admins), nil, "done done"},
		})
	}
}

// An otherCaller is a user and what becomes of its read and its write.
type otherCaller struct {
	name   string
	uid    uint32
	gid    uint32
	groups []uint32
	want   string
}

func wantAccess(t *testing.T, exe, path string, callers []otherCaller) {
	t.Helper()
	for _, c := range callers {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(exe)
			cmd.Env = []string{roleVariable + "=" + path, "GORACE=atexit_sleep_ms=0"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid, Groups: c.groups}}
			got, err := cmd.Output()
			if err != nil || string(got) != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestTheUserTundRunsAsMayWrite(t *testing.T) {
	who := caller{uid: uint32(os.Geteuid())}
	if !who.may(Write, admins) {
		t.Error("may not")
	}
}

func TestNobodyMayUseARouteWithoutAccess(t *testing.T) {
	if (caller{uid: 0}).may(0, admins) {
		t.Error("root may")
	}
}

func TestAGroupThatDoesNotExistAdmitsNobody(t *testing.T) {
	who := caller{uid: uint32(os.Geteuid()) + 1, groups: []uint32{0}}
	if who.may(Write, "no-such-group-here") {
		t.Error("may write")
	}
}

// openDir is a directory that every user can enter, as those that testing makes are not.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copyOfTest puts the test binary where other users can execute it.
func copyOfTest(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "client")
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func groupID(t *testing.T, name string) uint32 {
	t.Helper()
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(gid)
}

func manyGroups(n uint32) []uint32 {
	var groups []uint32
	for i := range n {
		groups = append(groups, 70000+i)
	}
	return groups
}
