// Package sdnotify tells the service manager how the daemon is: ready, reloading, alive,
// stopping. It gives the manager descriptors to keep (store.go), and takes those that this process
// was started with (inherit.go). Where no manager listens (NOTIFY_SOCKET is not set) everything is
// a no-op without error, so that callers need not ask.
//
// It runs in the parent only; children do not get the manager's variables. The variables stay
// in the environment: whoever starts a child leaves them out.
package sdnotify

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A Notifier sends the daemon's state to the service manager. The zero value is
// ready, and safe for concurrent use.
type Notifier struct{}

// New returns a Notifier.
func New() *Notifier { return new(Notifier) }

// Ready says that the start, or a reload, is complete.
func (Notifier) Ready() error { return send("ready", daemon.SdNotifyReady) }

// Reloading says that a reload has begun; Ready must follow, whatever comes of it. The clock
// reading in the same message is what Type=notify-reload wants (systemd.service(5)).
func (Notifier) Reloading() error {
	return send("reloading", daemon.SdNotifyReloading+"\n"+strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
}

// Stopping says that the daemon is about to end.
func (Notifier) Stopping() error { return send("stopping", daemon.SdNotifyStopping) }

// Status sets the one line that `systemctl status` shows.
func (Notifier) Status(text string) error {
	return send("status", "STATUS="+strings.ReplaceAll(text, "\n", " "))
}

// Ping tells the watchdog that the daemon works.
func (Notifier) Ping() error { return send("watchdog", daemon.SdNotifyWatchdog) }

// WatchdogInterval is how often Ping is wanted: half the manager's time-out. It is 0 where no
// watchdog waits for this process.
func (Notifier) WatchdogInterval() (time.Duration, error) {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("read watchdog interval: %w", err)
	}
	return timeout / 2, nil
}

func send(what, state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify service manager: %s: %w", what, err)
	}
	return nil
}
