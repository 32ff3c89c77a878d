package ctl

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Groups that every Linux system has stand in for tund and tund-admin.
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
	for _, test := range []struct {
		name   string
		uid    uint32
		gid    uint32
		groups []uint32
		want   string
	}{
		{"root", 0, 0, nil, "done done"},
		{"in neither group", stranger, stranger, nil, "no-socket no-socket"},
		{"may read", stranger, stranger, []uint32{groupID(t, readers)}, "done forbidden"},
		{"may read by its first group", stranger, groupID(t, readers), nil, "done forbidden"},
		{"may write", stranger, stranger, []uint32{groupID(t, readers), groupID(t, admins)}, "done done"},
		{"may write by its first group", stranger, groupID(t, admins), []uint32{groupID(t, readers)}, "done done"},
		{"admin who is no reader", stranger, groupID(t, admins), nil, "no-socket no-socket"},
		{"in many groups", stranger, stranger, append(manyGroups(60), groupID(t, readers), groupID(t, admins)), "done done"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(exe)
			cmd.Env = []string{roleVariable + "=" + s.path, "GORACE=atexit_sleep_ms=0"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: test.uid, Gid: test.gid, Groups: test.groups}}
			got, err := cmd.Output()
			if err != nil || string(got) != test.want {
				t.Errorf("got %q (%v), want %q", got, err, test.want)
			}
		})
	}
	if log := s.log.String(); !strings.Contains(log, "control request not permitted\" uid="+strconv.Itoa(stranger)) {
		t.Errorf("no refusal in the log: %s", log)
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
