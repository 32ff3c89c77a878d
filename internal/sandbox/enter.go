package sandbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Enter completes what Drop began, in stage 2, before anything else runs there. It checks
// that no thread has a capability or can gain one, and that exactly the descriptors 0 to lastFD are
// open, names the process "tund: NAME", and makes it undumpable. After an error the
// process must end.
func Enter(name string, lastFD int) error {
	_ = standBack("/proc/self/oom_score_adj") // a tunnel without it is better than none
	for _, step := range []func() error{
		checkThreads,
		func() error { return checkDescriptors(lastFD) },
		func() error { return setName("tund: " + name) },
		Protect, // last: /proc/self belongs to root from then on
	} {
		if err := step(); err != nil {
			return fmt.Errorf("enter sandbox: %w", err)
		}
	}
	return nil
}

// checkThreads reads what the kernel says of each thread. A thread that starts later
// has what its creator has.
func checkThreads() error {
	threads, err := list("/proc/self/task")
	if err != nil {
		return err
	}
	for _, tid := range threads {
		status, err := read("/proc/self/task/" + tid + "/status")
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return err
		}
		if err := checkStatus(status); err != nil {
			return fmt.Errorf("thread %s: %w", tid, err)
		}
	}
	return nil
}

// checkStatus wants all four capability sets of a status file empty, and no_new_privs.
func checkStatus(status string) error {
	seen := 0
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "CapInh", "CapPrm", "CapEff", "CapAmb":
			if strings.Trim(value, "0") != "" {
				return fmt.Errorf("has capabilities: %s %s", key, value)
			}
		case "NoNewPrivs":
			if value != "1" {
				return errors.New("may gain privileges: no_new_privs is not set")
			}
		default:
			continue
		}
		seen++
	}
	if seen != 5 {
		return errors.New("status without capabilities")
	}
	return nil
}

// checkDescriptors looks at /proc/self/fd, one descriptor of which is the look itself.
func checkDescriptors(lastFD int) error {
	for fd := range lastFD + 1 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	open, err := list("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, name := range open {
		fd, err := strconv.Atoi(name)
		if err != nil {
			return fmt.Errorf("list descriptors: %w", err)
		}
		if fd <= lastFD {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			return fmt.Errorf("descriptor %d is open, which nobody passed on", fd)
		}
	}
	return nil
}

// setName sets the name of the process, which the kernel cuts to 15 bytes.
func setName(name string) error {
	fd, err := unix.Open("/proc/self/comm", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set process name: %w", err)
	}
	_, err = unix.Write(fd, []byte(name))
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("set process name: %w", err)
	}
	return nil
}

// read reads a whole small file. Package os would start the runtime's poller.
func read(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	text, err := drain(fd, unix.Read)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return string(text), nil
}

// list reads the names in a directory. Its own descriptor is closed when it returns.
func list(path string) ([]string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	entries, err := drain(fd, unix.ReadDirent)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	_, _, names := unix.ParseDirent(entries, -1, nil)
	return names, nil
}

// drain reads until there is no more.
func drain(fd int, read func(int, []byte) (int, error)) ([]byte, error) {
	var all []byte
	b := make([]byte, 8192)
	for {
		n, err := read(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return all, err
		}
		all = append(all, b[:n]...)
	}
}
