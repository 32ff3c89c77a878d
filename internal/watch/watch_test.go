package watch_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"tund/internal/watch"
)

func TestEachWayToChangeAFileIsReported(t *testing.T) {
	for name, change := range map[string]func(n *nest){
		"write in place":             func(n *nest) { n.write("etc/tund.toml", "b") },
		"the same text again":        func(n *nest) { n.write("etc/tund.toml", "a") },
		"rename over":                func(n *nest) { n.replace("etc/tund.toml", "b") },
		"backup, then a new file":    func(n *nest) { n.backup("etc/tund.toml", "b") },
		"remove":                     func(n *nest) { n.must(os.Remove(n.path("etc/tund.toml"))) },
		"a peer changed":             func(n *nest) { n.write("etc/peers.d/one.toml", "b") },
		"a peer added":               func(n *nest) { n.write("etc/peers.d/two.toml", "b") },
		"a peer added by rename":     func(n *nest) { n.replace("etc/peers.d/two.toml", "b") },
		"a peer removed":             func(n *nest) { n.must(os.Remove(n.path("etc/peers.d/one.toml"))) },
		"a peer put aside":           func(n *nest) { n.must(os.Rename(n.path("etc/peers.d/one.toml"), n.path("etc/peers.d/.one"))) },
		"a key changed":              func(n *nest) { n.write("etc/private.key", "b") },
		"peers.d removed":            func(n *nest) { n.must(os.RemoveAll(n.path("etc/peers.d"))) },
		"the mode of a key":          func(n *nest) { n.must(os.Chmod(n.path("etc/private.key"), 0o640)) },
		"the owner of a key":         func(n *nest) { n.must(os.Chown(n.path("etc/private.key"), -1, 12345)) },
		"a file becomes a link":      func(n *nest) { n.write("other", "b"); n.relink("../other", "etc/tund.toml") },
		"a hard link takes its name": func(n *nest) { n.write("other", "b"); n.hardlink("other", "etc/tund.toml") },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNest(t, filled)
			change(n)
			n.want()
			n.write("etc/tund.toml", "and once more")
			n.want()
		})
	}
}

func TestNoiseIsNotReported(t *testing.T) {
	for name, noise := range map[string]func(n *nest){
		"an editor's own files": func(n *nest) {
			n.write("etc/.tund.toml.swp", "x")
			n.write("etc/4913", "x")
			n.write("etc/tund.toml~", "x")
			n.write("etc/tund.toml.dpkg-new", "x")
		},
		"dot files and others in peers.d": func(n *nest) {
			n.write("etc/peers.d/.two.toml", "x")
			n.write("etc/peers.d/two.toml.dpkg-dist", "x")
			n.write("etc/peers.d/sub/two.toml", "x")
		},
		"a key that is not in use": func(n *nest) { n.write("etc/old.key", "x") },
		"a mode set to what it is": func(n *nest) { n.must(os.Chmod(n.path("etc/private.key"), 0o600)) },
		"a touch":                  func(n *nest) { now := time.Now(); n.must(os.Chtimes(n.path("etc/tund.toml"), now, now)) },
		"reading":                  func(n *nest) { _, err := os.ReadFile(n.path("etc/tund.toml")); n.must(err) },
		"a mode of the directory":  func(n *nest) { n.must(os.Chmod(n.path("etc"), 0o711)) },
		"what happens beside it":   func(n *nest) { n.write("other/tund.toml", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNest(t, filled)
			noise(n)
			n.wantNone()
		})
	}
}

func TestChangesJoinTheEventThatWaitsForItsOwner(t *testing.T) {
	n := newNest(t, filled)
	for _, name := range []string{"etc/tund.toml", "etc/private.key", "etc/peers.d/one.toml"} {
		n.write(name, "b")
		n.pause()
	}
	if e := n.want(); e.Path != n.path("etc/tund.toml") {
		t.Errorf("got %+v, not the first", e)
	}
}

func TestWatcherOutlivesTheChannelOfSignals(t *testing.T) {
	n := newNest(t, filled)
	close(n.hangup)
	n.write("etc/tund.toml", "b")
	n.want()
}

func TestSwappedLinksAreFollowed(t *testing.T) {
	n := newNest(t, func(n *nest) { // as Kubernetes mounts a ConfigMap
		n.write("etc/..1/tund.toml", "1")
		n.write("etc/..2/tund.toml", "2")
		n.link("..1", "etc/..data")
		n.link("..data/tund.toml", "etc/tund.toml")
	})
	n.relink("..2", "etc/..data")
	n.want()
	n.write("etc/..2/tund.toml", "in the new directory")
	n.want()
	n.write("etc/..1/tund.toml", "in the old directory")
	n.wantNone()
	n.must(os.RemoveAll(n.path("etc/..2")))
	n.want()
	n.write("etc/..2/tund.toml", "the target is back")
	n.want()
}

func TestFilesBehindLinksAreWatchedWhereTheyAre(t *testing.T) {
	n := newNest(t, func(n *nest) {
		n.write("srv/main", "a")
		n.write("srv/peers/one.toml", "a")
		n.write("run/two", "a")
		n.link("../srv/main", "etc/tund.toml")
		n.link(n.path("srv/peers"), "etc/peers.d")
		n.link("../../run/two", "srv/peers/two.toml")
		n.link("../srv/later", "etc/private.key")
	})
	for _, name := range []string{"srv/main", "srv/peers/one.toml", "srv/peers/three.toml", "run/two", "srv/later"} {
		n.replace(name, "b")
		n.want()
		n.write(name, "c")
		n.want()
	}
}

func TestCircleOfLinksIsBorne(t *testing.T) {
	n := newNest(t, func(n *nest) {
		n.link("private.key", "etc/tund.toml")
		n.link("tund.toml", "etc/private.key")
	})
	n.replace("etc/tund.toml", "b")
	n.want()
}

func TestWhatIsMissingIsSeenWhenItComes(t *testing.T) {
	n := newNest(t, func(*nest) {})
	n.write("etc/tund.toml", "a")
	n.want()
	n.write("etc/private.key", "a")
	n.want()
	n.write("etc/peers.d/one.toml", "a")
	n.want()
	n.write("etc/peers.d/one.toml", "b")
	n.want()
}

func TestDirectoryThatIsMadeAgainIsWatchedAgain(t *testing.T) {
	n := newNest(t, filled)
	n.must(os.RemoveAll(n.path("etc")))
	n.want()
	n.write("etc/tund.toml", "b")
	n.want()
	n.replace("etc/tund.toml", "c")
	n.want()
	n.must(os.RemoveAll(n.path("etc")))
	filled(n)
	n.want()
	n.write("etc/peers.d/one.toml", "d")
	n.want()
}

func TestDirectoryThatIsExchangedIsWatchedAnew(t *testing.T) {
	n := newNest(t, filled)
	n.write("next/tund.toml", "b")
	n.must(os.Rename(n.path("etc"), n.path("old")))
	n.must(os.Rename(n.path("next"), n.path("etc")))
	n.want()
	n.write("old/tund.toml", "c")
	n.wantNone()
	n.write("etc/tund.toml", "d")
	n.want()
}

func TestNewFilesAreWatchedAndOldOnesForgotten(t *testing.T) {
	n := newNest(t, filled)
	n.write("etc/keys/beta.psk", "a")
	n.setFiles("tund.toml", "keys/beta.psk")
	n.pause() // for Run to take them over
	n.replace("etc/keys/beta.psk", "b")
	n.want()
	n.write("etc/private.key", "b")
	n.wantNone()
}

func TestChangeBetweenSetFilesAndRunIsReported(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tund.toml")
	events := make(chan watch.Event)
	w := watch.New(watch.Options{Log: slog.New(slog.DiscardHandler), Events: events})
	w.SetFiles([]string{file})
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = w.Run(t.Context()) }() // ends with the test
	select {
	case e := <-events:
		if e != (watch.Event{Reason: watch.File, Path: file}) {
			t.Errorf("got %+v", e)
		}
	case <-time.After(time.Minute):
		t.Error("no event")
	}
}

func TestSetFilesMayBeCalledFromManyGoroutines(t *testing.T) {
	n := newNest(t, filled)
	done := make(chan struct{})
	for i := range 4 {
		go func() {
			for j := range 50 {
				n.watcher.SetFiles([]string{n.path(fmt.Sprintf("etc/%d-%d", i, j%3))})
				_ = n.watcher.Err()
			}
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	n.setFiles("tund.toml")
	n.pause() // for Run to take them over
	n.write("etc/tund.toml", "b")
	n.want()
}

func TestRunLeavesNoGoroutineAndNoDescriptor(t *testing.T) {
	dir := t.TempDir()
	count := func() int { return runtime.NumGoroutine() }
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	goroutines, open := count(), descriptors()
	for range 5 {
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		w := watch.New(watch.Options{Log: slog.New(slog.DiscardHandler), Events: make(chan watch.Event)})
		w.SetFiles([]string{filepath.Join(dir, "x")})
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
		stop()
	}
	for end := time.Now().Add(time.Minute); count() > goroutines && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // what a goroutine does last is to end
	}
	if g, d := count(), descriptors(); g > goroutines || d > open {
		t.Errorf("%d goroutines and %d descriptors were %d and %d", g, d, goroutines, open)
	}
}
