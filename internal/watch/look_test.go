package watch_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/watch"
)

// A writer is seen from the moment when it opens a file to that when it closes it, whatever it does.
func TestFileIsSeenAsOpenForWriting(t *testing.T) {
	for name, flags := range map[string]int{
		"truncated":       os.O_WRONLY | os.O_TRUNC,
		"written inplace": os.O_RDWR,
		"appended to":     os.O_WRONLY | os.O_APPEND,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			main, peer := filepath.Join(dir, "tund.toml"), filepath.Join(dir, "beta.toml")
			for _, file := range []string{main, peer} {
				must(t, os.WriteFile(file, []byte("x"), 0o600))
			}
			files := []string{main, filepath.Join(dir, "*.toml"), filepath.Join(dir, "missing")}
			if l := watch.TakeLook(files); l.Writer != "" {
				t.Fatalf("%s has a writer before", l.Writer)
			}
			f, err := os.OpenFile(peer, flags, 0)
			must(t, err)
			if l := watch.TakeLook(files); l.Writer != peer {
				t.Errorf("the writer of %s is not seen: %q", peer, l.Writer)
			}
			must(t, f.Close())
			if l := watch.TakeLook(files); l.Writer != "" {
				t.Errorf("%s has a writer after", l.Writer)
			}
		})
	}
}

func TestLookingDoesNotWaitForAFIFOAndIsNotMisledByAReader(t *testing.T) {
	dir := t.TempDir()
	fifo, file := filepath.Join(dir, "fifo"), filepath.Join(dir, "file")
	must(t, syscall.Mkfifo(fifo, 0o600))
	must(t, os.WriteFile(file, nil, 0o600))
	reader, err := os.Open(file)
	must(t, err)
	defer func() { _ = reader.Close() }()
	if l := watch.TakeLook([]string{fifo, file, dir}); l.Writer != "" {
		t.Errorf("%s has a writer", l.Writer)
	}
}

func TestLooksTellWhatChangedBetweenThem(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "a.toml"), filepath.Join(dir, "b.toml")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	before := watch.TakeLook([]string{file})
	must(t, os.WriteFile(other, []byte("x"), 0o600))
	if changed, ok := before.Changed(watch.TakeLook([]string{file, other})); ok {
		t.Errorf("%s has changed", changed)
	}
	must(t, os.WriteFile(file, []byte("xy"), 0o600))
	if changed, ok := before.Changed(watch.TakeLook([]string{file, other})); !ok || changed != file {
		t.Errorf("the change is not seen: %q", changed)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The service's user is not the owner of its files; CAP_LEASE is what it needs to see their writers.
func TestWriterOfAnotherUsersFileIsSeenWithTheCapability(t *testing.T) {
	if file := os.Getenv(lookAt); file != "" { // the other user
		fmt.Println("writer=" + watch.TakeLook([]string{file}).Writer)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) // it is closed to others
	file := filepath.Join(dir, "tund.toml")
	f, err := os.Create(file)
	must(t, err)
	defer func() { _ = f.Close() }()
	for want, capabilities := range map[string][]uintptr{"": nil, file: {unix.CAP_LEASE}} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestWriterOfAnotherUsersFileIsSeenWithTheCapability$")
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), lookAt+"="+file)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}, AmbientCaps: capabilities}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "writer="+want+"\n") {
			t.Errorf("with capabilities %v: %v, %s", capabilities, err, out)
		}
	}
}

// lookAt is the variable that makes this program another user's.
const lookAt = "TUND_TEST_LOOK_AT"
