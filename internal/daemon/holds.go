package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
)

// holds remembers which peers were ordered to stay down, and why, in a file of the
// runtime directory: over a restart of tund, but not over a reboot. It is safe for
// concurrent use.
type holds struct {
	path string

	mu      sync.Mutex
	reasons map[string]string // by peer
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

// set remembers a reason; an empty one forgets. On an error the file is as it was.
func (h *holds) set(peer, reason string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reasons[peer] == reason {
		return nil
	}
	next := maps.Clone(h.reasons)
	if next[peer] = reason; reason == "" {
		delete(next, peer)
	}
	h.reasons = next
	return h.writeLocked()
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
	if err := os.WriteFile(h.path+".new", append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(h.path+".new", h.path)
}
