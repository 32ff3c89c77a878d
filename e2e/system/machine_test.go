package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/e2e/lab"
)

func TestMachinesBootAndLeaveNothing(t *testing.T) {
	t.Parallel()
	name := ""
	t.Run("fleet", func(t *testing.T) {
		f := NewFleet(t)
		name = f.name
		alpha, beta, link := f.Pair("bookworm", "trixie")
		if r := alpha.Ping(link.Addr(beta.Node, 4).String(), 3); r.Lost != 0 {
			t.Errorf("ping over the link: %v", r)
		}
		if got := beta.Shell("hostname; readlink /proc/1/exe"); got != "beta\n/usr/lib/systemd/systemd" {
			t.Errorf("beta is %q", got)
		}
		alpha.RunInput("new", "sh", "-c", "echo old >/var/tmp/file; chmod 640 /var/tmp/file")
		alpha.Edit("/var/tmp/file", "new")
		if got := alpha.Shell("cat /var/tmp/file; stat -c %a /var/tmp/file"); got != "new640" {
			t.Errorf("edited file is %q", got)
		}
	})
	for _, left := range traces(t, name) {
		t.Errorf("left: %s", left)
	}
}

func TestGuardRemovesWhatADeadProcessLeft(t *testing.T) {
	prefix := ownPrefix() + "left-"
	t.Cleanup(func() {
		if err := sweep(prefix); err != nil {
			t.Error(err)
		}
	})
	guard, err := startGuard(prefix)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(os.TempDir(), prefix+"1")
	process := leave(t, prefix+"1", dir)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = process.Wait() // it is killed
	}()
	if err := guard.Close(); err != nil { // as the end of the process that waits would
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(lab.Patience):
		t.Error("the process still runs")
	}
	lab.Until(t, lab.Patience, "nothing is left", func() bool { return len(traces(t, prefix)) == 0 })
}

// leave makes one of everything that a fleet makes, and returns the process.
func leave(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	groups, err := makeGroups(name)
	if err != nil {
		t.Fatal(err)
	}
	process := entering(groups, "sleep", "60")
	below := filepath.Join(dir, "below")
	steps := []func() error{
		process.Start,
		func() error { return command("ip", "netns", "add", name) },
		func() error { return os.Mkdir(dir, 0o755) },
		func() error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") },
		func() error { return os.Mkdir(below, 0o755) },
		func() error { return unix.Mount("tmpfs", below, "tmpfs", 0, "") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return process
}

// traces returns what there is on this machine of things whose name begins with prefix.
func traces(t *testing.T, prefix string) []string {
	t.Helper()
	tops, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range append(tops, memoryTop, "/run/netns", os.TempDir()) {
		paths, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, prefix) {
			found = append(found, "mount "+line)
		}
	}
	return found
}
