package watch_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tund/internal/watch"
)

// silence is how long a test waits to see that nothing is reported.
const silence = watch.Quiet + 150*time.Millisecond

// nest is a directory with a running watcher of the files in it.
type nest struct {
	t       *testing.T
	dir     string
	watcher *watch.Watcher
	events  chan watch.Event
	hangup  chan os.Signal
}

// newNest starts a watcher of tund.toml, peers.d/*.toml and private.key. What prepare
// makes is there before.
func newNest(t *testing.T, prepare func(n *nest)) *nest {
	t.Helper()
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := &nest{t: t, dir: dir, events: make(chan watch.Event), hangup: make(chan os.Signal, 1)}
	prepare(n)
	n.watcher = watch.New(watch.Options{Log: slog.New(slog.DiscardHandler), Events: n.events, Hangup: n.hangup})
	n.setFiles("tund.toml", "peers.d/*.toml", "private.key")
	watching := n.watcher.Watching()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.watcher.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-watching
	return n
}

// filled prepares a nest with a main file, a key and one peer.
func filled(n *nest) {
	n.write("etc/tund.toml", "a")
	n.write("etc/private.key", "a")
	n.write("etc/peers.d/one.toml", "a")
}

// setFiles sets files of the directory etc.
func (n *nest) setFiles(names ...string) {
	for i := range names {
		names[i] = n.path("etc/" + names[i])
	}
	n.watcher.SetFiles(names)
}

func (n *nest) path(name string) string { return filepath.Join(n.dir, name) }

// must fails the test where a step of a change fails.
func (n *nest) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *nest) write(name, text string) {
	n.t.Helper()
	n.must(os.MkdirAll(filepath.Dir(n.path(name)), 0o755))
	n.must(os.WriteFile(n.path(name), []byte(text), 0o600))
}

// replace writes a file as careful editors do.
func (n *nest) replace(name, text string) {
	n.t.Helper()
	n.write(name+".new", text)
	n.must(os.Rename(n.path(name+".new"), n.path(name)))
}

func (n *nest) link(target, name string) {
	n.t.Helper()
	n.must(os.MkdirAll(filepath.Dir(n.path(name)), 0o755))
	n.must(os.Symlink(target, n.path(name)))
}

// relink replaces a symbolic link in one step.
func (n *nest) relink(target, name string) {
	n.t.Helper()
	n.link(target, name+".tmp")
	n.must(os.Rename(n.path(name+".tmp"), n.path(name)))
}

// want waits for the event of a change, and for the silence after it. On a busy machine a change
// of several steps may have several events.
func (n *nest) want() watch.Event {
	n.t.Helper()
	var first watch.Event
	for limit, heard := time.Minute, false; ; limit = silence {
		select {
		case e := <-n.events:
			if e.Reason != watch.File || !strings.HasPrefix(e.Path, n.dir) {
				n.t.Errorf("got %+v", e)
			}
			if !heard {
				first, heard = e, true
			}
		case <-time.After(limit):
			if !heard {
				n.t.Fatal("no event")
			}
			return first
		}
	}
}

func (n *nest) wantNone() {
	n.t.Helper()
	select {
	case e := <-n.events:
		n.t.Errorf("unexpected event %+v", e)
	case <-time.After(silence):
	}
}

// pause waits for longer than a watcher does.
func (n *nest) pause() { time.Sleep(silence) }

// backup writes a file as editors do that keep the old one.
func (n *nest) backup(name, text string) {
	n.must(os.Rename(n.path(name), n.path(name+"~")))
	n.write(name, text)
}

func (n *nest) hardlink(target, name string) {
	n.must(os.Link(n.path(target), n.path(name+".x")))
	n.must(os.Rename(n.path(name+".x"), n.path(name)))
}
