package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// firstDescriptor is where a program finds the descriptors that it is started with
// (sd_listen_fds(3)).
const firstDescriptor = 3

// storeSize is FileDescriptorStoreMax.
const storeSize = "4096"

// kept is a descriptor in the store of a manager.
type kept struct {
	name string
	file *os.File
}

// Keep makes the manager keep the descriptors that tund gives it, from the next start on, and
// hand all of them to each tund that starts after that, as systemd does.
func (m *Manager) Keep() {
	m.node.Env = append(m.node.Env, "FDSTORE="+storeSize)
	m.node.store = m
}

// Forget closes all descriptors in the store, as systemd does when a service is stopped.
func (m *Manager) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		_ = k.file.Close()
	}
	m.kept = nil
}

// Kept lists the names of what is in the store, sorted, once all has been heard that was
// said before.
func (m *Manager) Kept() []string {
	m.node.lab.tb.Helper()
	m.settle()
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.kept))
	for _, k := range m.kept {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return names
}

// keep does what a message asks for with the descriptors that came with it. A barrier is
// answered by closing its descriptor.
func (m *Manager) keep(text string, files []*os.File) {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[name] = value
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case fields["FDSTORE"] == "1" && m.node.store == m && fields["FDPOLL"] == "0":
		for _, f := range files {
			m.kept = append(m.kept, kept{fields["FDNAME"], f})
		}
		return
	case fields["FDSTOREREMOVE"] == "1":
		m.kept = slices.DeleteFunc(m.kept, func(k kept) bool {
			if k.name == fields["FDNAME"] {
				_ = k.file.Close()
			}
			return k.name == fields["FDNAME"]
		})
	}
	for _, f := range files {
		_ = f.Close()
	}
}

// rights returns the descriptors that came along with a message.
func rights(control []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "right"))
		}
	}
	return files
}

// knowsPID is put before a program that looks for its own process id in the environment.
func knowsPID() []string { return []string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"} }

// handBack gives a tund that is to start duplicates of all that is in the store. The function
// returned closes them here.
func (m *Manager) handBack(cmd *exec.Cmd) (done func(), err error) {
	m.settle()
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	done = func() {
		for _, f := range cmd.ExtraFiles {
			_ = f.Close()
		}
	}
	for _, k := range m.kept {
		fd, err := duplicate(k.file)
		if err != nil {
			done()
			return nil, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), k.name))
		names = append(names, k.name)
	}
	cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return done, nil
}

func duplicate(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(old uintptr) { fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, firstDescriptor) })
	return fd, errors.Join(err, failed)
}
