package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// processesIn returns the ids of all processes whose network is the named namespace,
// but for this one, of which a thread may be there for a moment.
func processesIn(namespace string) []int {
	want, err := os.Stat(filepath.Join(namespaceDir, namespace))
	if err != nil {
		return nil
	}
	var pids []int
	for _, pid := range processes() {
		got, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err == nil && os.SameFile(want, got) && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processes returns the ids of all processes.
func processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Children returns the ids of the processes whose parent is pid.
func Children(pid int) []int {
	var children []int
	for _, candidate := range processes() {
		if ProcStatus(candidate)["PPid"] == strconv.Itoa(pid) {
			children = append(children, candidate)
		}
	}
	return children
}

// ProcStatus returns the fields of /proc/PID/status, empty when the process is gone.
func ProcStatus(pid int) map[string]string {
	fields := map[string]string{}
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return fields
	}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

// CommandOf returns what ps shows of a process: its name and its arguments.
func CommandOf(pid int) string {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	arguments := string(bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '}))
	return ProcStatus(pid)["Name"] + ": " + arguments
}

// Descriptors returns the open descriptors of a process, each with what /proc shows it
// to be, such as "pipe:[123]" or "/dev/net/tun".
func Descriptors(pid int) (map[int]string, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[int]string{}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed since
		}
		if err != nil {
			return nil, err
		}
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			return nil, err
		}
		found[fd] = target
	}
	return found, nil
}

// Alive reports whether a process exists and is no zombie.
func Alive(pid int) bool {
	state := ProcStatus(pid)["State"]
	return state != "" && !strings.HasPrefix(state, "Z")
}

// killAll ends processes at once.
func killAll(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Switches returns how often the threads of a process have gone to sleep or were made to
// wait so far: with nothing to do, that is how often they were woken.
func Switches(pid int) (int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("process %d: no threads: %w", pid, err)
	}
	all := 0
	for _, task := range tasks {
		content, err := os.ReadFile(task)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a thread that has ended
		}
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(content)) {
			name, value, _ := strings.Cut(line, ":")
			if name == "voluntary_ctxt_switches" {
				count, err := strconv.Atoi(strings.TrimSpace(value))
				if err != nil {
					return 0, fmt.Errorf("%s: %w", task, err)
				}
				all += count
			}
		}
	}
	return all, nil
}

// Policies returns how many threads of a process are scheduled by each policy (sched(7)).
func Policies(pid int) (map[uint32]int, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	threads := map[uint32]int{}
	for _, task := range tasks {
		thread, err := strconv.Atoi(task.Name())
		if err != nil {
			return nil, err
		}
		attributes, err := unix.SchedGetAttr(thread, 0)
		if errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, fmt.Errorf("thread %d: %w", thread, err)
		}
		threads[attributes.Policy]++
	}
	return threads, nil
}

// Schedule changes how every thread of a process is scheduled. A new one is scheduled like that
// which began it, so there is an end to them.
func Schedule(pid int, attr unix.SchedAttr) error {
	attr.Size = unix.SizeofSchedAttr
	dir := fmt.Sprintf("/proc/%d/task", pid)
	done := map[string]bool{}
	for more := true; more; {
		more = false
		tasks, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, task := range tasks {
			if done[task.Name()] {
				continue
			}
			done[task.Name()], more = true, true
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}
