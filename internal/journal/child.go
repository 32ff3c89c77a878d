package journal

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// lines writes each record as one line that begins with its priority, as in sd-daemon(3). One
// line is one write.
type lines struct {
	w io.Writer
	gathered
}

// ChildHandler returns the handler of a data child, which writes lines to standard error: the pipe
// that its parent reads. They begin with their priority. A child does not wait for its
// parent to read, nor end where that is gone: what finds no room is lost.
func ChildHandler() (slog.Handler, error) {
	if err := unix.SetNonblock(unix.Stderr, true); err != nil {
		return nil, err
	}
	return newLines(stderr{}), nil
}

// ChildComplain writes what a data child ends with.
func ChildComplain(text string) {
	complainTo(stderr{}, text)
}

func complainTo(w io.Writer, text string) {
	for line := range strings.Lines(text) {
		_, _ = io.WriteString(w, mark(journal.PriErr)+strings.TrimSuffix(line, "\n")+"\n") // there is nobody to tell
	}
}

func newLines(w io.Writer) slog.Handler { return &lines{w: w} }

// Enabled implements slog.Handler.
func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithAttrs implements slog.Handler.
func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lines{w: l.w, gathered: l.withAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (l *lines) WithGroup(name string) slog.Handler {
	return &lines{w: l.w, gathered: l.withGroup(name)}
}

// Handle implements slog.Handler.
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	_, err := io.WriteString(l.w, mark(priority(r.Level))+text(r, l.all(r))+"\n")
	return err
}
