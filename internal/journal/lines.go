package journal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
)

// lines writes each record as one line that begins with its priority, as in sd-daemon(3). One
// line is one write: those of several processes do not mix.
type lines struct {
	w io.Writer
	gathered
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
	whole, _ := l.complete(r)
	_, err := fmt.Fprintf(l.w, "<%d>%s\n", priority(r.Level), text(whole))
	return err
}
