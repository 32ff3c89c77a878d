package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// holdsPause is the time between two tries to write what could not be written.
const holdsPause = time.Second

// holds remembers which peers were ordered to stay down, and why, in a file of the
// runtime directory: over a restart of tund, but not over a reboot. It is safe for
// concurrent use.
type holds struct {
	path string

	mu      sync.Mutex
	reasons map[string]string // by peer
	unkept  bool              // the file does not say so
}

// openHolds reads the file at path, which need not exist. A file that can't be read
// is an error: a peer that was ordered down must not come up by accident.
func openHolds(path string) (*holds, error) {
	h := &holds{path: path, reasons: make(map[string]string)}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read orders to stay down: %w", err)
	}
	if err := json.Unmarshal(data, &h.reasons); err != nil {
		return nil, fmt.Errorf("read orders to stay down: %s: %w (remove the file to forget them)", path, err)
	}
	return h, nil
}

func (h *holds) get(peer string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reasons[peer]
}

// set remembers a reason; an empty one forgets. On an error the file is as it was, and
// run writes it as soon as that can be done.
func (h *holds) set(peer, reason string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reasons[peer] == reason && !h.unkept {
		return nil
	}
	if h.reasons[peer] = reason; reason == "" {
		delete(h.reasons, peer)
	}
	return h.keepLocked()
}

// run keeps what set could not, until ctx ends.
func (h *holds) run(ctx context.Context, log *slog.Logger) {
	retry := time.NewTicker(holdsPause)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
			if h.keepLate() {
				log.Info("orders to stay down kept", "path", h.path)
			}
		case <-ctx.Done():
			return
		}
	}
}

// keepLate tells whether the file was behind and is not any more.
func (h *holds) keepLate() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.unkept && h.keepLocked() == nil
}

func (h *holds) keepLocked() error {
	err := h.writeLocked()
	h.unkept = err != nil
	return err
}

func (h *holds) writeLocked() error {
	if len(h.reasons) == 0 {
		if err := os.Remove(h.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.Marshal(h.reasons)
	if err != nil {
		return err
	}
	next := h.path + ".new"
	if err := os.WriteFile(next, append(data, '\n'), 0o600); err != nil {
		_ = os.Remove(next) // a part of it would keep what little room there is
		return err
	}
	return os.Rename(next, h.path)
}
