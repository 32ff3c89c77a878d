package watch

import (
	"log/slog"
	"os"
	"slices"
	"sync"
)

// Reason says what kind of event it is.
type Reason string

// The reasons.
const (
	File   Reason = "file"   // a file has changed, appeared or gone
	Signal Reason = "signal" // SIGHUP
)

// Event asks for the configuration to be loaded again.
type Event struct {
	Reason Reason
	Path   string // of File: the first path that was seen to change
}

// Options of [New].
type Options struct {
	Log    *slog.Logger
	Events chan<- Event     // the owner's; while an event waits, others join it
	Hangup <-chan os.Signal // what signal.Notify was given for SIGHUP; nil: none
}

// Watcher watches files. Its methods are safe for concurrent use; Run is called once.
type Watcher struct {
	log     *slog.Logger
	events  chan<- Event
	hangup  <-chan os.Signal
	open    func() (notifier, error)
	changed chan struct{} // holds one: that there are new files; more say no more

	mu    sync.Mutex
	files []string
	seen  snapshot // of files, when they were set
	err   error
}

// New returns a Watcher that has no files yet. It starts nothing.
func New(o Options) *Watcher {
	return &Watcher{
		log: o.Log, events: o.Events, hangup: o.Hangup,
		open:    openNotifier,
		changed: make(chan struct{}, 1),
	}
}

// SetFiles replaces the files to watch, which are absolute paths and may be missing. An
// entry whose last element is "*.toml" stands for all files of its directory that end
// so and do not begin with a dot. Call it directly after the files have been read: a
// change after this call is reported, even before Run has begun. It does not block.
func (w *Watcher) SetFiles(files []string) {
	files = slices.Clone(files)
	seen := takeSnapshot(files)
	w.mu.Lock()
	w.files, w.seen = files, seen
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Err returns why the files are not watched but only looked at every few seconds, or
// nil if they are watched.
func (w *Watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Look looks at the files that were set last.
func (w *Watcher) Look() Look {
	files, _ := w.current()
	return TakeLook(files)
}

// AddFiles has further files watched, beside those that were set last.
func (w *Watcher) AddFiles(files []string) {
	now, _ := w.current()
	w.SetFiles(slices.Compact(slices.Sorted(slices.Values(slices.Concat(now, files)))))
}

func (w *Watcher) setErr(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func (w *Watcher) current() ([]string, snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.files, w.seen
}
