package system

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// guardVariable, set in the environment, makes a process of the test program the guard
// of the one that started it; its value is what begins the names of that one's fleets.
const guardVariable = "TUND_SYSTEM_GUARD"

// startGuard starts a process that waits for the end of this one, even by SIGKILL, and
// then removes the fleets whose names begin with prefix. Closing what startGuard returns
// makes it do so at once.
func startGuard(prefix string) (*os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	// Without output of its own: whoever reads this process's would wait for it. In a
	// session of its own: the terminal's signals are not for it.
	guard := exec.Command(self)
	guard.Env = append(os.Environ(), guardVariable+"="+prefix)
	guard.Stdin = reader
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := guard.Start(); err != nil {
		_ = writer.Close()
		return nil, wrap("start guard", err)
	}
	return writer, nil
}

// stand is what the guard does: when the other end of its input is gone, it sweeps.
func stand(prefix string) error {
	for buffer := make([]byte, 1); ; {
		if _, err := os.Stdin.Read(buffer); err != nil {
			return sweep(prefix)
		}
	}
}

// ownPrefix begins the names of all fleets of this process.
func ownPrefix() string { return namePrefix + strconv.Itoa(os.Getpid()) + "-" }

// sweep ends all machines whose name begins with prefix and removes every trace of them.
// What is gone already is no error.
func sweep(prefix string) error {
	if !strings.HasPrefix(prefix, namePrefix) {
		return errors.New("sweep: not a name of a fleet: " + prefix)
	}
	failures := []error{killGroups(prefix), removeMemoryGroups(prefix)}
	names, _ := filepath.Glob("/run/netns/" + prefix + "*") // the pattern is right
	for _, path := range names {
		failures = append(failures, command("ip", "netns", "delete", filepath.Base(path)))
	}
	failures = append(failures, unmount(filepath.Join(os.TempDir(), prefix)))
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range dirs {
		failures = append(failures, os.RemoveAll(dir))
	}
	return errors.Join(failures...)
}

// unmount unmounts everything below paths that begin with prefix, the last mount first.
func unmount(prefix string) error {
	content, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var failures []error
	for _, line := range slices.Backward(strings.Split(string(content), "\n")) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], prefix) {
			continue
		}
		if err := unix.Unmount(fields[1], 0); err != nil {
			// Something still looks at it: it goes when that does.
			failures = append(failures, wrap("unmount "+fields[1], unix.Unmount(fields[1], unix.MNT_DETACH)))
		}
	}
	return errors.Join(failures...)
}

// removeLeftovers removes the fleets of processes that are gone.
func removeLeftovers() error {
	tops, err := hierarchies()
	if err != nil {
		return err
	}
	var paths []string
	for _, dir := range append(tops, memoryTop, "/run/netns", os.TempDir()) {
		found, _ := filepath.Glob(filepath.Join(dir, namePrefix+"*")) // the pattern is right
		paths = append(paths, found...)
	}
	var failures []error
	for _, path := range paths {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), namePrefix), "-")
		if _, err := os.Stat("/proc/" + owner); errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, sweep(namePrefix+owner+"-"))
		}
	}
	return errors.Join(failures...)
}
