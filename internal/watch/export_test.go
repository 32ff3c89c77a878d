package watch

import (
	"sync"

	"github.com/fsnotify/fsnotify"
)

// The times that tests measure against.
const (
	Quiet      = quiet
	Patience   = patience
	LookOften  = lookOften
	LookSeldom = lookSeldom
)

// Notifier is notifier.
type Notifier = notifier

// SetOpen replaces the kernel's notifier, before Run.
func (w *Watcher) SetOpen(open func() (Notifier, error)) { w.open = open }

// Watching returns a channel that is closed when Run has set its watches. It must be
// called before Run.
func (w *Watcher) Watching() <-chan struct{} {
	o := &observed{watching: make(chan struct{})}
	open := w.open
	w.open = func() (notifier, error) {
		n, err := open()
		return &observed{notifier: n, parent: o}, err
	}
	return o.watching
}

// observed tells when its events are asked for the first time.
type observed struct {
	notifier
	parent   *observed
	watching chan struct{}
	once     sync.Once
}

// Events returns the events of the notifier.
func (o *observed) Events() <-chan fsnotify.Event {
	o.parent.once.Do(func() { close(o.parent.watching) })
	return o.notifier.Events()
}

// FakeNotifier is a notifier whose events come from the test.
type FakeNotifier struct {
	Dirs    []string
	Change  chan fsnotify.Event
	Failure chan error
	Closed  bool
	failAdd error
}

// NewFakeNotifier returns a notifier that watches nothing; failAdd is what Add returns.
func NewFakeNotifier(failAdd error) *FakeNotifier {
	return &FakeNotifier{Change: make(chan fsnotify.Event), Failure: make(chan error), failAdd: failAdd}
}

// Add notes the directory.
func (f *FakeNotifier) Add(dir string) error {
	f.Dirs = append(f.Dirs, dir)
	return f.failAdd
}

// Events returns Change.
func (f *FakeNotifier) Events() <-chan fsnotify.Event { return f.Change }

// Errors returns Failure.
func (f *FakeNotifier) Errors() <-chan error { return f.Failure }

// Close notes that it was called.
func (f *FakeNotifier) Close() error {
	f.Closed = true
	return nil
}
