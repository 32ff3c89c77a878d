package watch_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"tund/internal/watch"
)

var (
	errNoInotify = errors.New("too many open files")
	errNoSpace   = errors.New("no space left on device")
)

// looked is the time within which looking at a file finds and reports its change.
const looked = watch.LookOften + watch.Quiet + time.Millisecond

// frail runs a watcher of one file whose notifiers come from the test, in the bubble
// of synctest.
type frail struct {
	*watch.Watcher
	t      *testing.T
	file   string
	events chan watch.Event
	hangup chan os.Signal

	mu       sync.Mutex
	opens    []time.Duration // when a notifier was asked for, since the start
	fakes    []*watch.FakeNotifier
	failOpen error // of every notifier
	failAdd  error
}

func startFrail(t *testing.T, failOpen, failAdd error) *frail {
	t.Helper()
	f := &frail{t: t, file: filepath.Join(t.TempDir(), "tund.toml"), events: make(chan watch.Event), hangup: make(chan os.Signal)}
	f.failOpen, f.failAdd = failOpen, failAdd
	f.Watcher = watch.New(watch.Options{Log: slog.New(slog.DiscardHandler), Events: f.events, Hangup: f.hangup})
	start := time.Now()
	f.SetOpen(func() (watch.Notifier, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.opens = append(f.opens, time.Since(start))
		if f.failOpen != nil {
			return nil, f.failOpen
		}
		fake := watch.NewFakeNotifier(f.failAdd)
		f.fakes = append(f.fakes, fake)
		return fake, nil
	})
	f.SetFiles([]string{f.file})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return f
}

// notifiers returns how many there have been, and the last one.
func (f *frail) notifiers() (int, *watch.FakeNotifier) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.fakes), f.fakes[len(f.fakes)-1]
}

// heal lets notifiers be had again.
func (f *frail) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failOpen = nil
}

func (f *frail) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.file, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// change writes the file, and its notifier tells so.
func (f *frail) change(text string) {
	f.t.Helper()
	f.write(text)
	_, fake := f.notifiers()
	fake.Change <- fsnotify.Event{Name: f.file, Op: fsnotify.Write}
	synctest.Wait()
}

// wantWithin waits for an event of the file.
func (f *frail) wantWithin(d time.Duration) {
	f.t.Helper()
	select {
	case e := <-f.events:
		if e.Reason != watch.File {
			f.t.Errorf("got %+v", e)
		}
	case <-time.After(d):
		f.t.Fatalf("no event within %v", d)
	}
}

func (f *frail) wantNoneWithin(d time.Duration) {
	f.t.Helper()
	select {
	case e := <-f.events:
		f.t.Errorf("unexpected event %+v", e)
	case <-time.After(d):
	}
}

func TestFilesAreLookedAtWhereTheyCannotBeWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, errNoInotify, nil)
		if !errors.Is(f.Err(), errNoInotify) {
			t.Errorf("Err is %v", f.Err())
		}
		f.write("a")
		f.wantWithin(looked)
		f.wantNoneWithin(time.Hour)
		if err := os.Chmod(f.file, 0o640); err != nil {
			t.Fatal(err)
		}
		f.wantWithin(looked)
	})
}

func TestLookingWaitsForTheEndOfWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, errNoInotify, nil)
		f.write("a")
		time.Sleep(watch.LookOften + watch.Quiet/2) // seen, not settled
		f.write("ab")
		f.wantNoneWithin(watch.Quiet)
		f.wantWithin(watch.Quiet)
		f.wantNoneWithin(time.Minute)
	})
}

func TestWatchingIsTriedAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, errNoInotify, nil)
		time.Sleep(10 * time.Minute)
		want := []time.Duration{0, 5 * time.Second, 15 * time.Second, 35 * time.Second, 75 * time.Second, 155 * time.Second, 275 * time.Second, 395 * time.Second, 515 * time.Second}
		synctest.Wait()
		if !slices.Equal(f.opens, want) {
			t.Errorf("tried at %v, want %v", f.opens, want)
		}
		f.heal()
		time.Sleep(3 * time.Minute)
		if count, last := f.notifiers(); f.Err() != nil || count != 1 || !slices.Equal(last.Dirs, []string{filepath.Dir(f.file)}) {
			t.Errorf("not watched again: %v, %d, %+v", f.Err(), count, last)
		}
	})
}

func TestWatcherThatDiesIsReplaced(t *testing.T) {
	for name, kill := range map[string]func(f *watch.FakeNotifier){
		"an error":         func(f *watch.FakeNotifier) { f.Failure <- errors.New("bad file descriptor") },
		"events closed":    func(f *watch.FakeNotifier) { close(f.Change) },
		"errors closed":    func(f *watch.FakeNotifier) { close(f.Failure) },
		"both are closed":  func(f *watch.FakeNotifier) { close(f.Change); close(f.Failure) },
		"twice in a row":   func(f *watch.FakeNotifier) { f.Failure <- errNoInotify },
		"an unknown event": func(f *watch.FakeNotifier) { f.Change <- fsnotify.Event{}; f.Failure <- errNoInotify },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := startFrail(t, nil, nil)
				_, dead := f.notifiers()
				kill(dead)
				synctest.Wait()
				if f.Err() == nil || !dead.Closed {
					t.Errorf("Err is %v, closed is %v", f.Err(), dead.Closed)
				}
				f.write("while nobody watches")
				f.wantWithin(looked)
				if count, last := f.notifiers(); f.Err() != nil || count < 2 || last.Closed {
					t.Errorf("not watched again: %v", f.Err())
				}
			})
		})
	}
}

func TestDirectoryThatCannotBeWatchedIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, nil, errNoSpace)
		if want := "watch " + filepath.Dir(f.file) + ": no space left on device"; f.Err() == nil || f.Err().Error() != want {
			t.Errorf("Err is %v, want %s", f.Err(), want)
		}
		f.write("a")
		f.wantWithin(looked)
		if _, last := f.notifiers(); !last.Closed {
			t.Error("the notifier is left open")
		}
	})
}

func TestDirectoryThatVanishesForEverIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, nil, os.ErrNotExist)
		if count, _ := f.notifiers(); count < 2 || count > 20 || !errors.Is(f.Err(), os.ErrNotExist) {
			t.Errorf("tried %d times: %v", count, f.Err())
		}
	})
}

func TestOverflowIsReportedAndWatchesAreSetAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, nil, nil)
		_, old := f.notifiers()
		old.Failure <- fsnotify.ErrEventOverflow
		f.wantWithin(watch.Quiet + time.Millisecond)
		if count, _ := f.notifiers(); f.Err() != nil || !old.Closed || count != 2 {
			t.Errorf("Err %v, closed %v, %d notifiers", f.Err(), old.Closed, count)
		}
		f.wantNoneWithin(time.Hour)
	})
}

func TestChangeThatNoWatchTellsOfIsFoundInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, nil, nil)
		f.write("on a file system that is silent")
		f.wantNoneWithin(watch.Patience)
		f.wantWithin(watch.LookSeldom)
		f.wantNoneWithin(time.Hour)
	})
}

func TestWritingInManyStepsIsReportedOnceAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, nil, nil)
		for i := range 20 {
			f.change(strings.Repeat("x", i+1))
			f.wantNoneWithin(watch.Quiet / 3)
		}
		f.wantWithin(watch.Quiet)
		f.wantNoneWithin(time.Hour)
	})
}

func TestChangeWithoutEndIsReportedNevertheless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, nil, nil)
		const step = 50 * time.Millisecond
		f.change("x")
		for begin := time.Now(); ; f.change("x") {
			select {
			case <-f.events:
				if took := time.Since(begin); took != watch.Patience {
					t.Errorf("reported after %v, want %v", took, watch.Patience)
				}
				return
			case <-time.After(step):
				if time.Since(begin) > 2*watch.Patience {
					t.Fatal("not reported")
				}
			}
		}
	})
}

func TestSignalIsReportedAtOnceAndTakesAWaitingChangeAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFrail(t, nil, nil)
		f.change("b")
		time.Sleep(2 * watch.Quiet) // it waits for its owner
		for range 2 {
			begin := time.Now()
			f.hangup <- syscall.SIGHUP
			synctest.Wait()
			if e := <-f.events; e != (watch.Event{Reason: watch.Signal}) || time.Since(begin) != 0 {
				t.Errorf("got %+v after %v", e, time.Since(begin))
			}
			f.wantNoneWithin(watch.Quiet + time.Millisecond)
		}
	})
}
