package ctl

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	socketMode    = 0o600 // beside whom admit lets in
	directoryMode = 0o755
	backlog       = 64
	maxPath       = 107 // unix(7): sun_path less its end
	// lockPatience is how long another tund may take to open a socket in the same
	// directory; it needs microseconds.
	lockPatience = 2 * time.Second
	lockRetry    = 10 * time.Millisecond
)

// socketFile is a listening socket and the file that leads to it.
type socketFile struct {
	*net.UnixListener
	path string
	info fs.FileInfo // of the file when it was made, so that only our own is removed; nil: it is another's

	denied error // why its groups can't connect; nil: they can
}

// inherit takes a socket that is there already. Its file is for whoever made it to remove.
func inherit(l *net.UnixListener, groups ...string) *socketFile {
	l.SetUnlinkOnClose(false)
	path := l.Addr().String()
	return &socketFile{UnixListener: l, path: path, denied: admit(path, groups...)}
}

// openSocket makes the socket at path and listens on it. The file has its mode
// and groups before the first caller can connect, and takes the place of one that
// a dead daemon left behind; one that is answered is an error.
func openSocket(path string, groups ...string) (*socketFile, error) {
	switch {
	case path == "":
		return nil, errors.New("control socket: no path is given")
	case len(path) > maxPath:
		return nil, fmt.Errorf("control socket %s: the path is longer than %d bytes", path, maxPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), directoryMode); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	unlock, err := lockDirectory(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	s, err := bindSocket(path, groups)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return s, nil
}

// Close stops listening and removes the file, unless somebody has put another in
// its place.
func (s *socketFile) Close() error {
	if s.info == nil {
		return s.UnixListener.Close()
	}
	var removed error
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.info) {
		removed = os.Remove(s.path)
	}
	return errors.Join(s.UnixListener.Close(), removed)
}

// gone reports whether somebody has removed the file that was made for the socket.
func (s *socketFile) gone() bool {
	if s.info == nil {
		return false
	}
	_, err := os.Lstat(s.path)
	return errors.Is(err, fs.ErrNotExist)
}

// lockDirectory keeps two daemons from finding the same stale file at the same
// time, when the slower would remove the socket of the faster.
func lockDirectory(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	deadline := time.After(lockPatience)
	retry := time.NewTicker(lockRetry)
	defer retry.Stop()
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-retry.C:
		case <-deadline:
			_ = f.Close()
			return nil, fmt.Errorf("lock directory %s: %w", dir, err)
		}
	}
}

// removeStale removes the socket file of a daemon that is no more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("control socket %s: a file that is not a socket is in the way", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
	}
	// Any other error, EAGAIN for a full queue say, comes from a socket that lives.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("another tund is running on %s", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("control socket: remove stale file: %w", err)
	}
	return nil
}

// bindSocket makes the file, then sets who may use it, and only then listens:
// connecting to a socket that does not listen yet is refused.
func bindSocket(path string, groups []string) (*socketFile, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }() // the listener has a duplicate
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	s, err := listenBound(f, path, groups)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return s, nil
}

// listenBound turns a bound socket into a listener for its groups.
func listenBound(f *os.File, path string, groups []string) (*socketFile, error) {
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, err
	}
	denied := admit(path, groups...) // its owner and root can connect in any case
	if err := unix.Listen(int(f.Fd()), backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	// A listener made from a descriptor does not unlink its path; Close does.
	return &socketFile{UnixListener: l.(*net.UnixListener), path: path, info: info, denied: denied}, nil
}
