package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"tund/internal/sdnotify"
)

// watchdog tells the service manager that tund works: that its loop does, which calls pet,
// and that every peer has answered lately. A child that hangs is its supervisor's matter; only where
// that does not get on either does the peer not answer. A peer that ends its tunnel or
// waits for the kernel is silent for some seconds, so one counts as hung after the whole time-out
// only: systemd then ends tund between one and two time-outs after a peer went silent, and
// within one after the loop did.
type watchdog struct {
	log      *slog.Logger
	interval time.Duration // between two pings; 0: nobody waits for them
	ping     func() error
	wg       *sync.WaitGroup

	asked map[answerer]*question
}

// An answerer is a peer.
type answerer interface {
	Name() string
	Alive(ctx context.Context) error
}

// A question to a peer; another one is asked when it is answered.
type question struct {
	since  time.Time // when it, or the first of those that were answered badly, was asked
	answer chan error
	logged bool
}

func newWatchdog(log *slog.Logger, notify sdnotify.Notifier, wg *sync.WaitGroup) (*watchdog, error) {
	interval, err := notify.WatchdogInterval()
	return &watchdog{log: log, interval: interval, ping: notify.Ping, wg: wg, asked: map[answerer]*question{}}, err
}

// ticks returns when pet is due; never where nobody asks for it.
func (w *watchdog) ticks() (due <-chan time.Time, stop func()) {
	if w.interval <= 0 {
		return nil, func() {}
	}
	ticker := time.NewTicker(w.interval)
	return ticker.C, ticker.Stop
}

// pet pings unless a peer hangs, and asks all of them how they are. It does not wait for the answers,
// which end with ctx.
func (w *watchdog) pet(ctx context.Context, peers []answerer) error {
	if w.interval <= 0 {
		return nil
	}
	asked := make(map[answerer]*question, len(peers))
	hung := false
	for _, p := range peers {
		q := w.ask(ctx, p, w.asked[p])
		asked[p] = q
		hung = w.hangs(p, q) || hung
	}
	w.asked = asked
	if hung {
		return nil
	}
	return w.ping()
}

// hangs tells whether a question has been open for too long, and says so once.
func (w *watchdog) hangs(p answerer, q *question) bool {
	silence := time.Since(q.since)
	if silence <= 2*w.interval {
		return false
	}
	if !q.logged {
		w.log.Error("peer does not answer the watchdog", "peer", p.Name(), "duration", silence)
		q.logged = true
	}
	return true
}

// ask returns the question that is open, or a new one. After a bad answer the time runs on.
func (w *watchdog) ask(ctx context.Context, p answerer, open *question) *question {
	next := &question{since: time.Now(), answer: make(chan error, 1)} // room: nobody may be left to read it
	if open != nil {
		select {
		case err := <-open.answer:
			if err != nil {
				next.since, next.logged = open.since, open.logged
			}
		default:
			return open
		}
	}
	w.wg.Go(func() { next.answer <- p.Alive(ctx) }) // ends with the answer, or ctx
	return next
}

// petWatchdog is called by the loop, and in the midst of what keeps it busy.
func (d *Daemon) petWatchdog(ctx context.Context) {
	var peers []answerer
	for _, m := range d.all() {
		peers = append(peers, m)
	}
	d.report("watchdog", d.dog.pet(ctx, peers))
}
