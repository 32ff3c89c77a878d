package netcfg

import (
	"context"
	"fmt"
	"time"

	"tund/internal/parts"
)

const (
	// receiveBuffer takes a burst of some thousand events, as of a routing daemon.
	receiveBuffer = 1 << 20

	reopenFirst = 100 * time.Millisecond
	reopenLast  = 10 * time.Second
)

// Observer hears what Watch finds and does. Its functions are called by the goroutine of Watch, and
// may be nil.
type Observer struct {
	// Changed is called when something that had been taken from an interface was put back (mended), and when
	// something else is missing than before: Missing tells what.
	Changed func(iface string, mended bool)
	// Arrived is called when an address or a link has come to this machine.
	Arrived func()
}

// Watch keeps interfaces as they are wanted: it puts back what something else takes from them, and
// tries again what could not be had, when an event says that it may be, and every now and then. Package
// parts says when. An interface that has been deleted is left alone: the owner of the device
// knows.
//
// Watch blocks until ctx is done, and then returns nil; it returns an error only if
// it cannot begin. When events were lost it looks at everything anew. It runs on the calling
// goroutine, which must be in the Manager's network namespace.
func (m *Manager) Watch(ctx context.Context, o Observer) error {
	return m.watch(ctx, o, receiveBuffer)
}

func (m *Manager) watch(ctx context.Context, o Observer, buffer int) error {
	w := watcher{m: m, o: o, due: map[string]time.Time{}, pace: map[string]*parts.Pace{}}
	sub, err := subscribe(buffer)
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	for sub != nil {
		w.mark(m.names())
		w.arrived() // perhaps, while nobody listened
		w.follow(ctx, sub)
		sub.close()
		sub = reopen(ctx, buffer)
	}
	return nil
}

// wakeWatch tells Watch that something is missing.
func (m *Manager) wakeWatch() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// reopen subscribes again, with growing pauses; nil means that ctx is done.
func reopen(ctx context.Context, buffer int) *subscription {
	for pause := reopenFirst; ; pause = min(2*pause, reopenLast) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if sub, err := subscribe(buffer); err == nil {
			return sub
		}
	}
}

// watcher is the state of one call of Watch, and is owned by its goroutine.
type watcher struct {
	m    *Manager
	o    Observer
	due  map[string]time.Time // when to look at an interface
	pace map[string]*parts.Pace
}

// follow reacts to events until the subscription ends or ctx is done.
func (w *watcher) follow(ctx context.Context, sub *subscription) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-sub.events:
			if !ok {
				return
			}
			w.mark(w.m.concerned(e))
			if e.arrived {
				w.arrived()
			}
		case <-w.m.wake:
			w.markLater(w.m.incomplete(), time.Now().Add(parts.Again))
		case <-timer.C:
			w.look(ctx, time.Now())
		}
		if next, ok := w.next(); ok {
			timer.Reset(time.Until(next))
		}
	}
}

func (w *watcher) arrived() {
	if w.o.Arrived != nil {
		w.o.Arrived()
	}
}

func (w *watcher) paceOf(iface string) *parts.Pace {
	if w.pace[iface] == nil {
		w.pace[iface] = &parts.Pace{}
	}
	return w.pace[iface]
}

// mark plans a look at interfaces that an event concerns. In a fight it comes soon, only to see what is
// missing until more may be done.
func (w *watcher) mark(ifaces []string) {
	now := time.Now()
	for _, iface := range ifaces {
		p := w.paceOf(iface)
		at := p.Next(now)
		if p.Fights(now) {
			at = now.Add(parts.Settle)
		}
		w.markLater([]string{iface}, at)
	}
}

// markLater plans a look, unless one comes earlier.
func (w *watcher) markLater(ifaces []string, at time.Time) {
	for _, iface := range ifaces {
		if planned, ok := w.due[iface]; !ok || at.Before(planned) {
			w.due[iface] = at
		}
	}
}

func (w *watcher) next() (first time.Time, ok bool) {
	for _, at := range w.due {
		if !ok || at.Before(first) {
			first, ok = at, true
		}
	}
	return first, ok
}

func (w *watcher) look(ctx context.Context, now time.Time) {
	for iface, at := range w.due {
		if at.After(now) || ctx.Err() != nil {
			continue
		}
		delete(w.due, iface)
		w.repair(iface, now)
	}
}

// repair looks at one interface and plans the next look.
func (w *watcher) repair(iface string, now time.Time) {
	p := w.paceOf(iface)
	dry := p.Fights(now)
	mended, changed := w.m.repair(iface, dry)
	if !dry {
		p.Tried(now, mended)
	}
	if (mended || changed) && w.o.Changed != nil {
		w.o.Changed(iface, mended)
	}
	switch {
	case !w.m.knows(iface):
		delete(w.pace, iface)
	case len(w.m.Missing(iface)) == 0:
	case dry:
		w.due[iface] = p.Next(now)
	default:
		w.due[iface] = now.Add(parts.Again)
	}
}

// names lists the interfaces that were given settings.
func (m *Manager) names() []string { return m.those(func(*device) bool { return true }) }

// incomplete lists those that lack something.
func (m *Manager) incomplete() []string {
	return m.those(func(d *device) bool { return len(d.missing) > 0 })
}

// concerned lists those of which e may have taken something, or that may get what they lack.
func (m *Manager) concerned(e event) []string { return m.those(e.concerns) }

func (m *Manager) those(fit func(*device) bool) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for iface, d := range m.devices {
		if fit(d) {
			all = append(all, iface)
		}
	}
	return all
}

func (m *Manager) knows(iface string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.devices[iface] != nil
}
