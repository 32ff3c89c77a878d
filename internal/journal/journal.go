// Package journal writes logs where they are looked for: as entries with fields in systemd's
// journal where standard error leads there, else as text on standard error.
//
// The parent sends entries by the journal's own protocol. A data child may open nothing,
// and inherits standard error: its lines begin with their priority, which the journal understands,
// and hold all else as text.
package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// identifier is what the journal shows before each message.
const identifier = "tund"

// Handler returns the handler for the parent's logs.
func Handler() slog.Handler {
	if !Connected() {
		return slog.NewTextHandler(os.Stderr, nil)
	}
	return &handler{send: journal.Send, fallback: StreamHandler()}
}

// StreamHandler returns the handler for the logs of a process that must not open
// anything: it writes lines to standard error, and nothing else.
func StreamHandler() slog.Handler {
	if !Connected() {
		return slog.NewTextHandler(os.Stderr, nil)
	}
	return newLines(os.Stderr)
}

// Connected says whether standard error leads to the journal.
func Connected() bool {
	connected, err := journal.StderrIsJournalStream()
	return connected && err == nil
}

// Complainer returns what writes a text of some lines to standard error, as something that needs a
// person. Where that leads is found out now: later a data child may not ask any more.
func Complainer() (complain func(text string)) {
	connected := Connected()
	return func(text string) { complainTo(os.Stderr, text, connected) }
}

func complainTo(w io.Writer, text string, connected bool) {
	for line := range strings.Lines(text) {
		if connected {
			line = fmt.Sprintf("<%d>%s", journal.PriErr, line)
		}
		_, _ = fmt.Fprintln(w, strings.TrimSuffix(line, "\n"))
	}
}

// A handler makes an entry with fields of each record.
type handler struct {
	send     func(message string, priority journal.Priority, fields map[string]string) error
	fallback slog.Handler // for what can't be sent
	gathered
}

// Enabled implements slog.Handler: as text on standard error, from Info on.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{send: h.send, fallback: h.fallback, gathered: h.withAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{send: h.send, fallback: h.fallback, gathered: h.withGroup(name)}
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	whole, attrs := h.complete(r)
	fields := map[string]string{"SYSLOG_IDENTIFIER": identifier, "EVENT": r.Message}
	addFields(fields, "", attrs)
	maps.DeleteFunc(fields, func(name, _ string) bool { return !isField(name) })
	if err := h.send(text(whole), priority(r.Level), fields); err != nil {
		return h.fallback.Handle(ctx, whole)
	}
	return nil
}

// addFields names each attribute as a field of the journal.
func addFields(fields map[string]string, prefix string, attrs []slog.Attr) {
	for _, a := range attrs {
		value := a.Value.Resolve()
		if value.Kind() == slog.KindGroup {
			addFields(fields, prefix+a.Key+"_", value.Group())
			continue
		}
		fields[field(prefix+a.Key)] = value.String()
	}
}

// field is the name of a key in the journal: in capitals, and uid as ACTOR_UID, since
// what begins like that of systemd itself is easily taken for it.
func field(key string) string {
	if key == "uid" {
		return "ACTOR_UID"
	}
	return strings.ToUpper(key)
}

// isField tells whether the journal takes a name, and an entry does not need it otherwise.
func isField(name string) bool {
	if name == "" || name[0] == '_' || len(name) > 64 || name == "MESSAGE" || name == "PRIORITY" {
		return false
	}
	return strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// priority is that of syslog(3).
func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	default:
		return journal.PriDebug
	}
}

// text is a record on one line, without what the journal has beside it.
func text(r slog.Record) string {
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{Level: r.Level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}})
	_ = h.Handle(context.Background(), r) // a buffer takes everything
	return strings.TrimSpace(r.Message + " " + b.String())
}
