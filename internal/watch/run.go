package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing must happen before a change is reported: editors and
	// copying programs write in several steps.
	quiet = 250 * time.Millisecond
	// patience is after how long a change is reported although there is no quiet.
	patience = 2 * time.Second

	// lookOften is how often the files are looked at while they are not watched, and
	// the first pause before watching is tried again.
	lookOften = 5 * time.Second
	// lookSeldom is how often the files are looked at although they are watched: some
	// file systems (NFS, FUSE) do not report what others change.
	lookSeldom = time.Minute
	// maxPause is the longest pause before watching is tried again.
	maxPause = 2 * time.Minute

	// maxRaces is how often a directory may vanish between being found and watched.
	maxRaces = 10
)

// errClosed is why a watcher ends that nobody has closed.
var errClosed = errors.New("inotify ended")

// loop is the state of Run.
type loop struct {
	*Watcher
	files    []string
	seen     snapshot
	plan     plan
	notifier notifier // nil: the files are only looked at
	stale    bool     // a watch may have been lost: open the notifier anew

	first   time.Time // when the change that is not reported yet began; zero: none
	path    string    // of that change
	ready   bool      // there has been quiet since
	hung    bool      // SIGHUP has come
	settled *time.Timer

	look  *time.Timer
	pause time.Duration // before watching is tried again
	retry time.Time
}

// Run watches until ctx is done, and returns nil then. A failing kernel interface does
// not end it: the files are looked at instead, and watching is tried again.
func (w *Watcher) Run(ctx context.Context) error {
	l := &loop{Watcher: w, settled: time.NewTimer(0), look: time.NewTimer(lookSeldom), pause: lookOften}
	l.settled.Stop()
	defer l.settled.Stop()
	defer l.look.Stop()
	defer l.close()
	for ctx.Err() == nil {
		l.step(ctx)
	}
	return nil
}

// step waits for one thing to happen.
func (l *loop) step(ctx context.Context) {
	var changes <-chan fsnotify.Event
	var failures <-chan error
	if l.notifier != nil {
		changes, failures = l.notifier.Events(), l.notifier.Errors()
	}
	event, out := l.next()
	select {
	case <-ctx.Done():
	case out <- event:
		l.onSent()
	case _, open := <-l.hangup:
		l.onHangup(open)
	case <-l.changed:
		l.onFiles()
	case e, open := <-changes:
		l.onChange(e, open)
	case err, open := <-failures:
		l.onFailure(err, open)
	case <-l.settled.C:
		l.onSettled()
	case <-l.look.C:
		l.onLook()
	}
}

// next returns the event that is due and the owner's channel, or a nil channel.
func (l *loop) next() (Event, chan<- Event) {
	switch {
	case l.hung:
		return Event{Reason: Signal}, l.events
	case l.ready:
		return Event{Reason: File, Path: l.path}, l.events
	}
	return Event{}, nil
}

// onSent forgets what the owner will see when it loads now. A change that is still
// going on is reported again.
func (l *loop) onSent() {
	if l.ready {
		l.first, l.ready = time.Time{}, false
	}
	l.hung = false
}

func (l *loop) onHangup(open bool) {
	if !open {
		l.hangup = nil
		return
	}
	l.hung = true
}

// onFiles takes over the files of SetFiles.
func (l *loop) onFiles() {
	l.files, l.seen = l.current()
	if l.notifier != nil || l.retry.IsZero() {
		l.arm()
	}
	l.scan()
}

// onChange judges one event of fsnotify.
func (l *loop) onChange(e fsnotify.Event, open bool) {
	switch {
	case !open:
		l.fail(errClosed)
	case !l.plan.matters(e.Name):
	case e.Op == fsnotify.Chmod:
		if file, ok := l.seen.accessDifference(takeSnapshot(l.files)); ok {
			l.touch(file)
		}
	default:
		l.stale = l.stale || l.plan.isDirectory(e.Name)
		l.touch(e.Name)
	}
}

func (l *loop) onFailure(err error, open bool) {
	switch {
	case !open:
		l.fail(errClosed)
	case errors.Is(err, fsnotify.ErrEventOverflow):
		l.stale = true
		l.touch("")
	case err != nil:
		l.fail(fmt.Errorf("inotify: %w", err))
	}
}

// onSettled makes a change ready to be reported. First the watches are set anew, so
// that nothing which happens after the owner has looked is missed.
func (l *loop) onSettled() {
	if l.notifier != nil {
		l.arm()
	}
	before := l.seen
	l.seen = takeSnapshot(l.files)
	if _, moving := before.difference(l.seen); moving && l.notifier == nil && time.Since(l.first) < patience {
		l.touch(l.path) // no watch tells of writing that goes on
		return
	}
	l.ready = true
}

// onLook compares the files with what was seen last, and tries to watch again.
func (l *loop) onLook() {
	l.look.Reset(lookSeldom)
	if l.notifier == nil {
		l.look.Reset(lookOften)
		if !time.Now().Before(l.retry) {
			l.arm()
		}
	}
	l.scan()
}

// scan notices changes that no watch has told of. The watches may be of directories
// that have been moved away, with all that was around them.
func (l *loop) scan() {
	now := takeSnapshot(l.files)
	if file, ok := l.seen.difference(now); ok {
		l.stale = true
		l.touch(file)
	}
	l.seen = now
}

// touch notes a change, which is reported after some quiet.
func (l *loop) touch(path string) {
	now := time.Now()
	if l.first.IsZero() {
		l.first, l.path = now, path
	}
	l.ready = false
	l.settled.Reset(max(0, min(quiet, patience-now.Sub(l.first))))
}

// arm makes the watches those that the files need now.
func (l *loop) arm() {
	err := l.watch(newPlan(l.files))
	for races := 0; races < maxRaces && vanished(err); races++ {
		err = l.watch(newPlan(l.files))
	}
	if err != nil {
		l.fail(err)
		return
	}
	if l.Err() != nil {
		l.log.Info("files are watched again")
	}
	l.setErr(nil)
	l.pause = lookOften
}

// vanished says whether a directory was gone before it could be watched.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// watch watches the directories of a plan. A new notifier takes the place of the old
// one where they differ, so there is no watch of which it is not known what it is of.
func (l *loop) watch(p plan) error {
	if l.notifier != nil && !l.stale && maps.Equal(p.dirs, l.plan.dirs) {
		l.plan = p
		return nil
	}
	n, err := l.open()
	if err != nil {
		return err
	}
	for dir := range p.dirs {
		if err := n.Add(dir); err != nil {
			_ = n.Close()
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	l.close()
	l.notifier, l.plan, l.stale = n, p, false
	return nil
}

// fail goes over to looking at the files.
func (l *loop) fail(err error) {
	l.close()
	if l.Err() == nil {
		l.log.Warn("files cannot be watched and are looked at now and then", "err", err, "duration", lookOften)
	}
	l.setErr(err)
	l.retry = time.Now().Add(l.pause)
	l.pause = min(2*l.pause, maxPause)
	l.look.Reset(lookOften)
}

// close closes the notifier, if there is one.
func (l *loop) close() {
	if l.notifier != nil {
		_ = l.notifier.Close()
		l.notifier = nil
	}
}
