package watch

import (
	"fmt"

	"github.com/fsnotify/fsnotify"
)

// notifier is what this package needs of fsnotify.
type notifier interface {
	Add(dir string) error
	Events() <-chan fsnotify.Event
	Errors() <-chan error
	Close() error
}

// inotify is the kernel's notifier.
type inotify struct {
	*fsnotify.Watcher
}

func openNotifier() (notifier, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("open inotify: %w", err)
	}
	return inotify{w}, nil
}

func (n inotify) Events() <-chan fsnotify.Event { return n.Watcher.Events }
func (n inotify) Errors() <-chan error          { return n.Watcher.Errors }
