package netcfg

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// settle is how long a removal may be followed by others, as with `ip addr flush`.
	settle = 50 * time.Millisecond
	// patience keeps two programs that undo each other's work from spinning.
	patience = time.Second
	// receiveBuffer takes a burst of some thousand events, as of a routing daemon.
	receiveBuffer = 1 << 20

	reopenFirst = 100 * time.Millisecond
	reopenLast  = 10 * time.Second
)

// Watch calls lost whenever an interface has no longer what was applied to it: an
// address, a route, or its bridge. It calls at most once a second for an interface,
// and not while the link is down or gone: then the administrator, or the owner of the
// device, knows. In lost the owner calls Restore, now or later.
//
// Watch blocks until ctx is done, and then returns nil; it returns an error only if
// it cannot begin. When events were lost it looks at everything anew. Watch, and lost,
// run on the calling goroutine, which must be in the Manager's network namespace.
func (m *Manager) Watch(ctx context.Context, lost func(iface string)) error {
	return m.watch(ctx, lost, receiveBuffer)
}

func (m *Manager) watch(ctx context.Context, lost func(iface string), buffer int) error {
	w := watcher{m: m, lost: lost, due: map[string]time.Time{}, quiet: map[string]time.Time{}}
	sub, err := subscribe(buffer)
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	for sub != nil {
		w.markAll()
		w.follow(ctx, sub)
		sub.close()
		sub = reopen(ctx, buffer)
	}
	return nil
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
	m     *Manager
	lost  func(iface string)
	due   map[string]time.Time // when to look at an interface
	quiet map[string]time.Time // until when not to
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
		case <-timer.C:
			w.look(ctx, time.Now())
		}
		if next, ok := w.next(); ok {
			timer.Reset(time.Until(next))
		}
	}
}

func (w *watcher) mark(ifaces []string) {
	for _, iface := range ifaces {
		if _, marked := w.due[iface]; marked {
			continue
		}
		w.due[iface] = time.Now().Add(settle)
		if w.quiet[iface].After(w.due[iface]) {
			w.due[iface] = w.quiet[iface]
		}
	}
}

func (w *watcher) markAll() { w.mark(w.m.names()) }

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
		if !w.m.incomplete(iface) {
			delete(w.quiet, iface)
			continue
		}
		w.quiet[iface] = now.Add(patience)
		w.lost(iface)
	}
}

// names lists the interfaces that were given settings.
func (m *Manager) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for iface := range m.applied {
		all = append(all, iface)
	}
	return all
}

// concerned lists the interfaces of which e may have taken something.
func (m *Manager) concerned(e event) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for iface, a := range m.applied {
		if e.concerns(a) {
			all = append(all, iface)
		}
	}
	return all
}

// incomplete reports whether the interface lacks something that Restore can put
// back. What cannot be looked up now is looked up at the next event.
func (m *Manager) incomplete(iface string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.applied[iface]
	if !ok {
		return false
	}
	c, err := m.begin(iface)
	if err != nil || c.index != a.index || !c.up {
		return false
	}
	return c.lacksBridge(a.settings.Bridge) || c.lacksAddress(a.settings) || c.lacksRoute(a.settings)
}

func (c *change) lacksBridge(name string) bool {
	if name == "" {
		return false
	}
	bridge, err := c.m.handle.LinkByName(name)
	return err == nil && bridge.Attrs().Index != c.master
}

func (c *change) lacksAddress(s Settings) bool {
	want, err := wantedAddresses(s)
	if err != nil {
		return false
	}
	present, err := c.m.addresses(c.link)
	return err == nil && slices.ContainsFunc(want, func(a address) bool {
		return !lists(present, a)
	})
}

func (c *change) lacksRoute(s Settings) bool {
	want := wantedRoutes(s)
	if len(want) == 0 {
		return false
	}
	present, err := c.m.routes(c.index)
	return err == nil && slices.ContainsFunc(want, func(r route) bool { return !slices.ContainsFunc(present, r.serves) })
}
