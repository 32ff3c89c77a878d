package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// A machine that was cloned has neither instance nor sessions of before, and its devices still.
func TestAClonedMachineRenewsEverything(t *testing.T) {
	r := newRig(t, newKernel(), "[peer.a]\n[peer.b]\n")
	before := r.node.Instance()
	r.o.Generation = func(_ context.Context, _ *slog.Logger, cloned func()) error {
		cloned()
		return errors.New("there are no more events")
	}
	r.watchGeneration(t.Context())
	if now := r.node.Instance(); now == before || now == [16]byte{} {
		t.Errorf("instance %x after %x", now, before)
	}
	if got := r.k.state(); got != "tun-a a; tun-b b" {
		t.Errorf("devices after it: %s", got)
	}
	for _, m := range r.all() {
		s, err := m.Status(t.Context())
		if err != nil || !strings.Contains(s.LastError, "cloned") {
			t.Errorf("%s: %q, %v", m.Name(), s.LastError, err)
		}
	}
}
