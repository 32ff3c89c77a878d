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

	stepped time.Time     // when the last step of a change was done, or the one before was over
	slowest time.Duration // the longest that one took
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
	n.rest()
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

// rest begins another change.
func (n *nest) rest() { n.stepped, n.slowest = time.Now(), 0 }

// dawdled says whether the change was no change in one go: a busy machine, or a busy disk,
// may take so long for a step of it that what was before is reported on its own.
func (n *nest) dawdled() bool { return n.slowest > watch.Quiet/2 }

// must ends each step of a change.
func (n *nest) must(err error) {
	n.t.Helper()
	n.slowest = max(n.slowest, time.Since(n.stepped))
	n.stepped = time.Now()
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

// want waits for one event of a file, and for the silence after it.
func (n *nest) want() watch.Event {
	n.t.Helper()
	select {
	case e := <-n.events:
		if e.Reason != watch.File || !strings.HasPrefix(e.Path, n.dir) {
			n.t.Errorf("got %+v", e)
		}
		n.wantAtMost(true)
		return e
	case <-time.After(10 * time.Second):
		n.t.Fatal("no event")
		return watch.Event{}
	}
}

func (n *nest) wantNone() {
	n.t.Helper()
	n.wantAtMost(false)
}

// wantAtMost waits for silence; again: after the event of a change.
func (n *nest) wantAtMost(again bool) {
	n.t.Helper()
	defer n.rest()
	for {
		select {
		case e := <-n.events:
			if !again || !n.dawdled() {
				n.t.Errorf("unexpected event %+v", e)
				return
			}
		case <-time.After(silence):
			return
		}
	}
}

// pause waits for longer than a watcher does.
func (n *nest) pause() {
	time.Sleep(silence)
	n.rest()
}

// backup writes a file as editors do that keep the old one.
func (n *nest) backup(name, text string) {
	n.must(os.Rename(n.path(name), n.path(name+"~")))
	n.write(name, text)
}

func (n *nest) hardlink(target, name string) {
	n.must(os.Link(n.path(target), n.path(name+".x")))
	n.must(os.Rename(n.path(name+".x"), n.path(name)))
}
