// Package journal writes logs where they are looked for: as entries with fields in systemd's
// journal where standard error leads there, else as text on standard error.
//
// Logging never stands in the way of work. A record goes into a queue, and one goroutine writes:
//
//	any goroutine --Handle--> limits --> queue --> Run --> journal's socket, or standard error
//	                          per subject  1 MiB
//
// Whoever logs neither waits nor fails. A line that finds no room, because nobody reads, or that
// can't be written is dropped and counted, and the count is logged when writing works again. So is
// the count of those over the limits, which nobody can get past who causes lines from outside.
//
// A data child has no queue. It writes lines to standard error, a pipe that its parent
// reads; see [ChildHandler].
package journal

import (
	"context"
	"log/slog"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// noticePause is how long a count may stay unsaid: of lines over a limit, and of lost ones while
// there is no other line to try.
const noticePause = time.Minute

// A Log takes the records of a process. Its methods are safe for concurrent use.
type Log struct {
	sink   sink
	queue  *queue
	limits *limits
	lost   uint64 // lines that could not be written, and not said yet; Run's
}

// New returns the Log of the parent. From now on no write to standard error ends this process
// by a signal: its reader may be gone, a file at its limit of size, its terminal in other hands.
func New() *Log {
	signal.Ignore(unix.SIGPIPE, unix.SIGXFSZ, unix.SIGTTOU)
	s := sink{out: stderr{wait: true}}
	if connected, err := journal.StderrIsJournalStream(); connected && err == nil {
		s.send = journal.Send
	}
	return newLog(s)
}

func newLog(s sink) *Log {
	return &Log{sink: s, queue: newQueue(), limits: newLimits()}
}

// Handler returns what a slog.Logger needs.
func (l *Log) Handler() slog.Handler { return &handler{log: l} }

// Run writes until ctx is done; to write takes as long as it takes.
func (l *Log) Run(ctx context.Context) {
	var later <-chan time.Time
	for {
		l.drain()
		if later == nil && (l.lost > 0 || l.limits.owing()) {
			later = time.After(noticePause)
		}
		select {
		case <-l.queue.wake:
		case <-later:
			later = nil
			l.noteWithheld()
		case <-ctx.Done():
			return
		}
	}
}

// drain writes all there is.
func (l *Log) drain() {
	for {
		e, ok := l.queue.next()
		if !ok {
			break
		}
		if !l.noteLost() || l.sink.write(e) != nil {
			l.lost++
		}
	}
	l.lost += l.queue.takeDropped()
	l.noteLost()
	l.queue.rest()
}

// noteLost tells whether all that was lost is said.
func (l *Log) noteLost() bool {
	if l.lost == 0 {
		return true
	}
	notice := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines dropped", 0)
	if l.sink.write(l.entry(notice, []slog.Attr{slog.Uint64("count", l.lost)})) != nil {
		return false
	}
	l.lost = 0
	return true
}

// noteWithheld queues the counts of lines over the limits.
func (l *Log) noteWithheld() {
	for _, w := range l.limits.take() {
		notice := slog.NewRecord(time.Now(), w.level, "log lines left out", 0)
		attrs := slices.Concat(w.subject, []slog.Attr{slog.String("sentence", w.sentence), slog.Uint64("count", w.count)})
		l.queue.put(l.entry(notice, attrs))
	}
}

// Flush returns when all that was logged has been written, or could not be; at the latest
// after a time. Run must be running.
func (l *Log) Flush(within time.Duration) {
	l.noteWithheld()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-l.queue.flushed():
	case <-timer.C:
	}
}

// Complain queues a text of some lines for standard error, as something that needs a person.
func (l *Log) Complain(text string) {
	for line := range strings.Lines(text) {
		line = printable(strings.TrimSuffix(line, "\n")) + "\n"
		if l.sink.send != nil {
			line = mark(journal.PriErr) + line
		}
		l.queue.put(entry{line: line})
	}
}
