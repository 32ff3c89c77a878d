// Package systemd_test checks the units of the service: that systemd takes them as they
// are, that what they leave open stays small, and that they say why they close the rest.
package systemd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tund/internal/sandbox"
)

// maxExposure is what `systemd-analyze security` may find, in tenths: 0 is best, 100 worst.
const maxExposure = "20"

func units() []string { return []string{"tund.service", "tund.socket"} }

// plain settings say all there is to say.
func plain() []string {
	return []string{
		"Description", "Documentation", "Type", "ExecStart", "Restart", "User", "Group", "ListenStream", "SocketMode", "WantedBy",
	}
}

// A setting is one line of a unit.
type setting struct {
	section, name, value string
	reason               bool // a comment stands right above
}

func settings(t *testing.T, unit string) []setting {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	var all []setting
	section, above := "", ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		name, value, isSetting := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "["):
			section = line
		case line != "" && !strings.HasPrefix(line, "#") && !isSetting:
			t.Errorf("%s: neither setting nor comment: %s", unit, line)
		case isSetting && !strings.HasPrefix(line, "#"):
			all = append(all, setting{section, name, value, strings.HasPrefix(above, "# ")})
		}
		above = line
	}
	if len(all) == 0 {
		t.Fatalf("%s holds nothing", unit)
	}
	return all
}

func TestEachSettingHasItsReason(t *testing.T) {
	for _, unit := range units() {
		for _, s := range settings(t, unit) {
			if !s.reason && !slices.Contains(plain(), s.name) {
				t.Errorf("%s: no reason above %s=%s", unit, s.name, s.value)
			}
		}
	}
}

// analyze runs systemd-analyze, where there is one: CI installs it.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here: package systemd")
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=cat", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestSystemdTakesTheUnitsWithoutComplaint(t *testing.T) {
	copies := withPrograms(t)
	out, err := analyze(t, append([]string{"verify", "--man=no"}, copies...)...)
	if err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestSystemdComplainsOfASettingThatItDoesNotKnow(t *testing.T) {
	copies := withPrograms(t)
	text, err := os.ReadFile(copies[0])
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(text), "\nType=notify\n", "\nType=notify\nTypo=yes\n", 1)
	if err := os.WriteFile(copies[0], []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := analyze(t, append([]string{"verify", "--man=no"}, copies...)...); !strings.Contains(out, "Typo") {
		t.Errorf("systemd-analyze verify says %q", out)
	}
}

// withPrograms copies the units to where the programs are that they start: verify looks
// whether those can be executed.
func withPrograms(t *testing.T) (copies []string) {
	t.Helper()
	dir := t.TempDir()
	for _, program := range []string{"tund", "tunctl"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range units() {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, unit)
		moved := strings.ReplaceAll(string(text), "/usr/bin/", dir+"/")
		if err := os.WriteFile(path, []byte(moved), 0o600); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, path)
	}
	return copies
}

// Whatever children do, their parent can make threads and other children.
func TestTasksAreBoundAndSomeAreLeftForTheParent(t *testing.T) {
	const children, threads, reserve = 2000, 8, 1024
	tasks := 0
	for _, s := range settings(t, "tund.service") {
		if s.name == "TasksMax" {
			n, err := strconv.Atoi(s.value)
			if err != nil {
				t.Fatal(err)
			}
			tasks = n
		}
	}
	if tasks < sandbox.MaxTasks+reserve {
		t.Errorf("TasksMax=%d, of which children may have %d", tasks, sandbox.MaxTasks)
	}
	if sandbox.MaxTasks < children*threads {
		t.Errorf("%d threads are not enough for %d children", sandbox.MaxTasks, children)
	}
}

func TestExposureIsSmall(t *testing.T) {
	out, err := analyze(t, "security", "--offline=true", "--threshold="+maxExposure, "./tund.service")
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		t.Errorf("systemd-analyze security: %v\n%s", exit, out)
	}
	found := regexp.MustCompile(`Overall exposure level for tund\.service: (\d+\.\d)`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("systemd-analyze security gives no level:\n%s", out)
	}
	t.Log("exposure", found[1])
}
