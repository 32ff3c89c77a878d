package journal

import (
	"io"

	"github.com/coreos/go-systemd/v22/journal"
)

// What the tests look at from inside.
var (
	ComplainTo = complainTo
	IsField    = isField
	NewLines   = newLines
	Printable  = printable
)

// The limits.
const (
	Burst       = burst
	Interval    = interval
	Subjects    = subjects
	NoticePause = noticePause
	QueueSize   = queueSize
)

// NewLog returns a Log that sends entries to send, unless it is nil, and writes lines to w.
func NewLog(send func(string, journal.Priority, map[string]string) error, w io.Writer) *Log {
	return newLog(sink{send: send, out: w})
}
