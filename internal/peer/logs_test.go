package peer_test

import (
	"context"
	"log/slog"
	"sync"
)

// logs keeps what a peer has logged.
type logs struct {
	mu      sync.Mutex
	records []slog.Record
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r.Clone())
	return nil
}

// find returns all records of a sentence, oldest first.
func (l *logs) find(sentence string) []slog.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []slog.Record
	for _, r := range l.records {
		if r.Message == sentence {
			found = append(found, r)
		}
	}
	return found
}

func (l *logs) count(sentence string) int { return len(l.find(sentence)) }

// value is a record's value of a key, as text.
func value(r slog.Record, key string) string {
	text := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == key {
			text = a.Value.String()
		}
		return true
	})
	return text
}

// levels are those of all records of a sentence.
func (l *logs) levels(sentence string) []slog.Level {
	var levels []slog.Level
	for _, r := range l.find(sentence) {
		levels = append(levels, r.Level)
	}
	return levels
}
