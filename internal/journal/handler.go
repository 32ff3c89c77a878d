package journal

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// identifier is what the journal shows before each message.
const identifier = "tund"

// A handler makes an entry of each record.
type handler struct {
	log *Log
	gathered
}

// Enabled implements slog.Handler: from Info on.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{log: h.log, gathered: h.withAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{log: h.log, gathered: h.withGroup(name)}
}

// Handle implements slog.Handler. It neither waits nor fails.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.all(r)
	ok, first := h.log.limits.allow(time.Now(), about{level: r.Level, sentence: r.Message, subject: subjectOf(attrs)})
	if ok {
		h.log.queue.put(h.log.entry(r, attrs))
	} else if first {
		h.log.queue.signal() // a count is to be said later
	}
	return nil
}

// entry makes one in the form that the sink has.
func (l *Log) entry(r slog.Record, attrs []slog.Attr) entry {
	r.Message = printable(r.Message)
	if l.sink.send == nil {
		return entry{line: format(r.Time, r, attrs, nil)}
	}
	e := entry{message: text(r, attrs), priority: priority(r.Level)}
	e.line = mark(e.priority) + e.message + "\n"
	e.fields = map[string]string{"SYSLOG_IDENTIFIER": identifier, "EVENT": r.Message}
	addFields(e.fields, "", attrs)
	maps.DeleteFunc(e.fields, func(name, _ string) bool { return !isField(name) })
	return e
}

// addFields names each attribute as a field of the journal.
func addFields(fields map[string]string, prefix string, attrs []slog.Attr) {
	for _, a := range attrs {
		value := a.Value.Resolve()
		if value.Kind() == slog.KindGroup {
			addFields(fields, prefix+a.Key+"_", value.Group())
			continue
		}
		fields[field(prefix+a.Key)] = printable(value.String())
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
func text(r slog.Record, attrs []slog.Attr) string {
	pairs := format(time.Time{}, r, attrs, func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	})
	return strings.TrimSpace(r.Message + " " + pairs)
}

// format is a line as slog.TextHandler writes it, which quotes what is not printable.
func format(at time.Time, r slog.Record, attrs []slog.Attr, replace func([]string, slog.Attr) slog.Attr) string {
	var b bytes.Buffer
	whole := slog.NewRecord(at, r.Level, r.Message, 0)
	whole.AddAttrs(attrs...)
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{Level: r.Level, ReplaceAttr: replace})
	_ = h.Handle(context.Background(), whole) // a buffer takes everything
	return b.String()
}
