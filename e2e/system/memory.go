package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryTop is where control groups limit memory, in the older hierarchy of them.
const memoryTop = "/sys/fs/cgroup/memory"

// memoryGroup is a control group that limits the memory of some processes.
type memoryGroup struct{ dir string }

// makeMemoryGroup makes one, without a limit.
func makeMemoryGroup(name string) (*memoryGroup, error) {
	g := &memoryGroup{filepath.Join(memoryTop, name)}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make control group: %w", err)
	}
	return g, nil
}

// take moves a process into the group. What it has allocated before does not count.
func (g *memoryGroup) take(pid int) error {
	return os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// limit bounds the memory, in bytes.
func (g *memoryGroup) limit(bytes int) error {
	return os.WriteFile(filepath.Join(g.dir, "memory.limit_in_bytes"), []byte(strconv.Itoa(bytes)), 0)
}

// kills returns how many processes the kernel has killed for want of memory in the group.
func (g *memoryGroup) kills() (int, error) {
	content, err := os.ReadFile(filepath.Join(g.dir, "memory.oom_control"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if count, found := strings.CutPrefix(line, "oom_kill "); found {
			return strconv.Atoi(strings.TrimSpace(count))
		}
	}
	return 0, errors.New("memory.oom_control does not count")
}

// removeMemoryGroups removes the groups whose name begins with prefix, once their processes
// are gone.
func removeMemoryGroups(prefix string) error {
	dirs, _ := filepath.Glob(filepath.Join(memoryTop, prefix+"*")) // the pattern is right
	var failures []error
	for _, dir := range dirs {
		failures = append(failures, removeGroup(dir))
	}
	return errors.Join(failures...)
}
