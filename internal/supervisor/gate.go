package supervisor

import (
	"context"
	"slices"
	"sync"
)

// A Gate bounds how many children of one process are just starting: a start takes tens of
// milliseconds of processor time, and a thousand at once would take each other the time
// that they have for it. Only first children pass it; one that comes in place of another,
// which has crashed, waits for nobody. It is safe for concurrent use.
type Gate struct {
	mu      sync.Mutex // guards what follows
	free    int
	waiting []*passage // those for whom packets wait first, else in the order they came
}

// passage is a wait for the gate to open.
type passage struct {
	urgent bool
	open   chan struct{} // closed when it does
}

// NewGate returns a Gate for so many at a time.
func NewGate(width int) *Gate { return &Gate{free: width} }

// enter waits for a place, before all that are not urgent if this one is. It reports false
// when ctx or left was done first. A nil Gate is always open.
func (g *Gate) enter(ctx context.Context, left <-chan struct{}, urgent bool) bool {
	if g == nil {
		return true
	}
	p := g.queue(urgent)
	select {
	case <-p.open:
		return true // also where it is to end at once
	default:
	}
	select {
	case <-p.open:
		return true
	case <-left:
	case <-ctx.Done():
	}
	g.giveUp(p)
	return false
}

func (g *Gate) queue(urgent bool) *passage {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &passage{urgent: urgent, open: make(chan struct{})}
	at := len(g.waiting)
	if urgent {
		if i := slices.IndexFunc(g.waiting, func(other *passage) bool { return !other.urgent }); i >= 0 {
			at = i
		}
	}
	g.waiting = slices.Insert(g.waiting, at, p)
	g.next()
	return p
}

// giveUp leaves the queue, or gives back a place that came at the same moment.
func (g *Gate) giveUp(p *passage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, p); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		return
	}
	g.free++
	g.next()
}

// leave gives a place back.
func (g *Gate) leave() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	g.next()
}

// next lets in who waits, as long as there is room. The caller holds mu.
func (g *Gate) next() {
	for g.free > 0 && len(g.waiting) > 0 {
		g.free--
		close(g.waiting[0].open)
		g.waiting = g.waiting[1:]
	}
}
