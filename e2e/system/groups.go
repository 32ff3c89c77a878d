package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A machine has one control group in each hierarchy that systemd uses: the unified one
// and, where this machine mounts it, the older one called "name=systemd".

// hierarchies returns where these are mounted, the unified one first.
func hierarchies() ([]string, error) {
	content, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	var unified, named []string
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		options := "," + fields[3] + ","
		switch {
		case fields[2] == "cgroup2":
			unified = append(unified, fields[1])
		case fields[2] == "cgroup" && strings.Contains(options, ",name=systemd,"):
			named = append(named, fields[1])
		}
	}
	if len(unified) == 0 {
		return nil, errors.New("find control groups: no unified hierarchy is mounted")
	}
	return append(unified[:1], named...), nil
}

// makeGroups makes the control groups of a machine and returns their directories.
func makeGroups(name string) ([]string, error) {
	tops, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, top := range tops {
		dir := filepath.Join(top, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// groupsWithin returns the directory of a group below the machine's unified one.
func groupsWithin(name, below string) []string {
	tops, err := hierarchies()
	if err != nil {
		return nil // the machine could not have been started
	}
	return []string{filepath.Join(tops[0], name, below)}
}

// entering returns a command that moves itself into control groups first.
func entering(groups []string, args ...string) *exec.Cmd {
	script := &strings.Builder{}
	for _, dir := range groups {
		fmt.Fprintf(script, "echo $$ >%s/cgroup.procs\n", dir)
	}
	script.WriteString(`exec "$@"`)
	return exec.Command("sh", append([]string{"-ec", script.String(), "sh"}, args...)...)
}

// killGroups ends every process in the groups whose name begins with prefix, and removes
// the groups.
func killGroups(prefix string) error {
	tops, err := hierarchies()
	if err != nil {
		return err
	}
	var failures []error
	for i, top := range tops {
		dirs, _ := filepath.Glob(filepath.Join(top, prefix+"*")) // the pattern is right
		for _, dir := range dirs {
			if i == 0 { // the older hierarchy has no such file, and the same processes
				failures = append(failures, os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0))
			}
			failures = append(failures, removeGroup(dir))
		}
	}
	return errors.Join(failures...)
}

// removeGroup removes a control group and those below it, once their processes are gone.
func removeGroup(top string) error {
	deadline := time.Now().Add(time.Minute) // a thousand devices go slowly
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := removeTree(top)
		if err == nil || time.Now().After(deadline) {
			return wrap("remove control group", err)
		}
		<-ticker.C
	}
}

// removeTree removes empty control groups, the deepest first.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var failures []error
	for _, entry := range entries {
		if entry.IsDir() {
			failures = append(failures, removeTree(filepath.Join(dir, entry.Name())))
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		failures = append(failures, fmt.Errorf("%s: %w", dir, err))
	}
	return errors.Join(failures...)
}
