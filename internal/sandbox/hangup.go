package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Hangup stops goroutines of a child that are blocked in system calls on its message
// pipes, without a descriptor to do it with.
type Hangup struct{ fds []int }

// NewHangup returns a Hangup for the child's ends of its pipes. The first is
// what FD returns; it should be the one that is written to: poll has nothing to say of it as
// long as its other end is open, whatever it is asked for.
func NewHangup(first int, more ...int) *Hangup {
	return &Hangup{fds: append([]int{first}, more...)}
}

// FD is a descriptor that poll reports as hung up once Close was called, or the
// parent is gone.
func (h *Hangup) FD() int { return h.fds[0] }

// Close lets every read and poll on the descriptors see the end of a pipe, also those that
// have begun. Nothing can be sent to the parent after it. It is called once.
func (h *Hangup) Close() error {
	var dead [2]int
	if err := unix.Pipe2(dead[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	err := unix.Close(dead[1])
	for _, fd := range h.fds {
		err = errors.Join(err, unix.Dup3(dead[0], fd, unix.O_CLOEXEC))
	}
	if err := errors.Join(err, unix.Close(dead[0]), interrupt()); err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	return nil
}

// interrupt makes every thread look again at the descriptors it waits for: a poll returns
// EINTR, a read is begun anew. Package runtime itself sends SIGURG to preempt and
// ignores one more. A thread that enters its system call only now sees the dead pipe.
func interrupt() error {
	threads, err := list("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread)
		if err != nil {
			return err
		}
		if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("interrupt thread %d: %w", tid, err)
		}
	}
	return nil
}
