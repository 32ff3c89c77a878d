package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"tund/internal/config"
	"tund/internal/sdnotify"
)

// The exit statuses of a failure.
const (
	exitFailed = 1
	exitConfig = 78 // EX_CONFIG of sysexits.h: the unit asks systemd not to try again
)

// startPause passes before tund gives up a start under a service manager that will try
// again. systemd does so a tenth of a second later, as it must after a crash, and at once where
// somebody waits at a socket that it holds; what keeps tund from starting seldom goes away so fast.
const startPause = 2 * time.Second

// notStarted is why the daemon has not come up.
type notStarted struct {
	error
	inherited bool // it was given descriptors: such a socket, or what an earlier tund has left
}

// Unwrap returns the cause.
func (n notStarted) Unwrap() error { return n.error }

// fail says what went wrong, and returns the exit status.
func fail(err error) int {
	status := statusOf(err)
	if _, ok := errors.AsType[notStarted](err); !ok { // somebody waits for the answer of a command
		_, _ = fmt.Fprintln(os.Stderr, "tund: "+err.Error())
		return status
	}
	log := startLog()
	log.Complain("tund: " + err.Error())
	log.Flush(flushLimit)
	if status != exitConfig && os.Getenv("NOTIFY_SOCKET") != "" {
		holdBack(err)
	}
	return status
}

// statusOf tells a service manager by the exit status whether it shall try again: with a
// configuration that is refused it need not, unless that would end devices and keys which
// wait for the moment when it is mended.
func statusOf(err error) int {
	n, _ := errors.AsType[notStarted](err)
	if _, ok := errors.AsType[*config.Errors](err); ok && !n.inherited {
		return exitConfig
	}
	return exitFailed
}

// holdBack shows the reason in `systemctl status` for a while.
func holdBack(err error) {
	first, _, _ := strings.Cut(err.Error(), "\n")
	_ = sdnotify.Notifier{}.Status("not started: " + first) // it is only shown
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	timer := time.NewTimer(startPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
