package journal

import (
	"errors"
	"fmt"
	"io"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// An entry is one line of the log.
type entry struct {
	line string // for standard error

	message  string // for the journal
	priority journal.Priority
	fields   map[string]string // nil: it is for standard error only
}

// size is about what an entry takes of memory.
func (e entry) size() int {
	const overhead = 128
	n := overhead + len(e.line) + len(e.message)
	for name, value := range e.fields {
		n += len(name) + len(value)
	}
	return n
}

// A sink is where entries go. One goroutine uses it.
type sink struct {
	send func(message string, priority journal.Priority, fields map[string]string) error // nil: there is no journal
	out  io.Writer
	cut  bool // the last line was written in part
}

// write writes an entry, where the journal does not take it as a line.
func (s *sink) write(e entry) error {
	if s.send != nil && e.fields != nil && s.send(e.message, e.priority, e.fields) == nil {
		return nil
	}
	line := e.line
	if s.cut {
		line = "\n" + line
	}
	n, err := io.WriteString(s.out, line)
	s.cut = err != nil && (s.cut && n == 0 || n > 0)
	return err
}

// mark is how a line tells its priority to the journal; see sd-daemon(3).
func mark(p journal.Priority) string { return fmt.Sprintf("<%d>", p) }

// stderr writes to standard error, as it is: os.Stderr would end the process where nobody reads any more.
type stderr struct {
	wait bool // until there is room, where the descriptor itself does not
}

// Write implements io.Writer.
func (s stderr) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(unix.Stderr, p[done:])
		switch {
		case err == nil:
			done += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && s.wait:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(unix.Stderr), Events: unix.POLLOUT}}, -1) // the next write tells
		default:
			return done, err
		}
	}
	return done, nil
}
