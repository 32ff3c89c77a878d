package sdnotify

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// fdsVariable names the descriptors that a tund leaves to the program that takes its
// place in the same process: "d1=17,u1=18".
const fdsVariable = "TUND_FDS"

// firstDescriptor comes after standard input, output and error.
const firstDescriptor = 3

// A Descriptor is one that this process was started with. Its name is that of the socket
// unit (FileDescriptorName=), of Store, or of Bequeath. Several may have the same name.
type Descriptor struct {
	Name string
	File *os.File
}

// Inherited returns the descriptors that the service manager, or the tund that ran in this process
// before, has left to this one, in the order in which they were given. They are closed on exec from
// now on. It can be called once: it takes the variables out of the environment. A descriptor that is
// named but not open is an error; those that are open are returned all the same.
func Inherited() ([]Descriptor, error) {
	var all []Descriptor
	for _, file := range activation.Files(true) {
		all = append(all, Descriptor{Name: file.Name(), File: file})
	}
	text := os.Getenv(fdsVariable)
	_ = os.Unsetenv(fdsVariable) // never fails on Linux
	named, err := parseBequest(text)
	for _, n := range named {
		unix.CloseOnExec(n.fd)
		all = append(all, Descriptor{Name: n.name, File: os.NewFile(uintptr(n.fd), n.name)})
	}
	open, lost := partOpen(all)
	return open, errors.Join(err, lost)
}

// partOpen returns those that are really open, and an error for the others.
func partOpen(all []Descriptor) (open []Descriptor, err error) {
	for _, d := range all {
		if _, statErr := d.File.Stat(); statErr != nil {
			err = errors.Join(err, fmt.Errorf("inherit descriptor %s: %w", d.Name, statErr))
			_ = d.File.Close()
			continue
		}
		open = append(open, d)
	}
	return open, err
}

// Bequeath prepares descriptors for an execve of this process: they stay open over it, and variable
// ("TUND_FDS=...") tells the new program about them. undo closes them on exec again, for where
// that has failed. The caller must start no other process in between, which would get them too.
func Bequeath(all []Descriptor) (variable string, undo func(), err error) {
	undo = func() { _, _ = closeOnExec(all, true) }
	fds, err := closeOnExec(all, false)
	if err != nil {
		undo()
		return "", nil, err
	}
	named := make([]bequeathed, len(all))
	for i, d := range all {
		named[i] = bequeathed{name: d.Name, fd: fds[i]}
	}
	text := formatBequest(named)
	if again, err := parseBequest(text); err != nil || !slices.Equal(again, named) {
		undo()
		return "", nil, errors.Join(fmt.Errorf("name descriptors %q", text), err)
	}
	return fdsVariable + "=" + text, undo, nil
}

// closeOnExec sets or clears that flag, and returns the numbers.
func closeOnExec(all []Descriptor, set bool) (fds []int, err error) {
	flag := 0
	if set {
		flag = unix.FD_CLOEXEC
	}
	for _, d := range all {
		raw, err := d.File.SyscallConn()
		if err != nil {
			return nil, fmt.Errorf("bequeath descriptor %s: %w", d.Name, err)
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			_, failed = unix.FcntlInt(fd, unix.F_SETFD, flag)
			fds = append(fds, int(fd))
		})
		if err := errors.Join(err, failed); err != nil {
			return nil, fmt.Errorf("bequeath descriptor %s: %w", d.Name, err)
		}
	}
	return fds, nil
}

// A bequeathed descriptor as the variable names it.
type bequeathed struct {
	name string
	fd   int
}

func formatBequest(named []bequeathed) string {
	parts := make([]string, len(named))
	for i, n := range named {
		parts[i] = n.name + "=" + strconv.Itoa(n.fd)
	}
	return strings.Join(parts, ",")
}

// parseBequest is strict: all or nothing, each number once.
func parseBequest(text string) ([]bequeathed, error) {
	if text == "" {
		return nil, nil
	}
	var named []bequeathed
	for part := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(part, "=")
		fd, err := strconv.ParseUint(number, 10, 31)
		known := slices.ContainsFunc(named, func(n bequeathed) bool { return n.fd == int(fd) })
		if err != nil || name == "" || fd < firstDescriptor || known || strconv.FormatUint(fd, 10) != number {
			return nil, fmt.Errorf("read %s: bad entry %q", fdsVariable, part)
		}
		named = append(named, bequeathed{name: name, fd: int(fd)})
	}
	return named, nil
}
