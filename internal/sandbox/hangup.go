package sandbox

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// FDStop is where a child has the event of its Hangup: nothing is read from standard input.
const FDStop = 0

// A Hangup stops goroutines of a child that wait in poll. Ending them takes one write: no
// descriptor, no signal, no file, of which a closed sandbox has none to give.
type Hangup struct{ fd int }

// NewHangup puts the event in the place of descriptor fd, which must be open.
func NewHangup(fd int) (*Hangup, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make stop event: %w", err)
	}
	err = errors.Join(unix.Dup3(event, fd, unix.O_CLOEXEC), unix.Close(event))
	if err != nil {
		return nil, fmt.Errorf("make stop event: %w", err)
	}
	return &Hangup{fd}, nil
}

// FD is a descriptor that is readable from Close on. Nobody reads it.
func (h *Hangup) FD() int { return h.fd }

// Close wakes every poll that waits for FD, now and later.
func (h *Hangup) Close() error {
	one := [8]byte{7: 1} // any number but 0
	if _, err := unix.Write(h.fd, one[:]); err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	return nil
}

// Reader reads from fd. Its end is that of fd, or Close.
func (h *Hangup) Reader(fd int) io.Reader { return reader{fd: fd, stop: h.fd} }

type reader struct{ fd, stop int }

func (r reader) Read(p []byte) (int, error) {
	for {
		fds := [...]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}, {Fd: int32(r.stop), Events: unix.POLLIN}}
		_, err := unix.Ppoll(fds[:], nil, nil)
		if err == nil && fds[1].Revents != 0 {
			return 0, io.EOF
		}
		n := 0
		if err == nil {
			n, err = unix.Read(r.fd, p)
		}
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("read descriptor %d: %w", r.fd, err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
