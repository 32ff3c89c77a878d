package journal

import (
	"io"
	"log/slog"

	"github.com/coreos/go-systemd/v22/journal"
)

// What the tests look at from inside.
var (
	ComplainTo = complainTo
	IsField    = isField
	NewLines   = newLines
)

// NewHandler returns a handler that sends entries to send, and lines to w where that fails.
func NewHandler(send func(string, journal.Priority, map[string]string) error, w io.Writer) slog.Handler {
	return &handler{send: send, fallback: newLines(w)}
}
