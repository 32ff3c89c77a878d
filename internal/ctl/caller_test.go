package ctl

import (
	"context"
	"os"
	"testing"
)

// watcher notes who has asked for a reload.
type watcher struct {
	*fakeBackend
	uid   uint32
	known bool
}

func (w *watcher) Reload(ctx context.Context) ReloadResult {
	w.uid, w.known = CallerUID(ctx)
	return w.fakeBackend.Reload(ctx)
}

func TestBackendCanLearnWhoHasAsked(t *testing.T) {
	w := &watcher{fakeBackend: &fakeBackend{}}
	r := serve(t, w)
	if _, err := NewClient(r.path, 0).Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !w.known || w.uid != uint32(os.Getuid()) {
		t.Errorf("user %d, known: %t", w.uid, w.known)
	}
	if _, ok := CallerUID(t.Context()); ok {
		t.Error("a caller without a request")
	}
}
