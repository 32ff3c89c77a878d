package supervisor

import (
	"context"
	"time"
)

// What the tests look at from inside.
var (
	NextBackoff = nextBackoff
	Jitter      = jitter
	Environment = environment
)

// SetLimits makes a test of time-outs fast.
func (s *Supervisor) SetLimits(hello, answer, grace time.Duration) {
	s.limits.hello, s.limits.answer, s.limits.grace = hello, answer, grace
}

// SetGrant changes how long a thread keeps a priority that it does not ask for again.
func (s *Supervisor) SetGrant(d time.Duration) { s.limits.grant = d }

// SetHello changes how long a child may take to start, and no other limit.
func (s *Supervisor) SetHello(d time.Duration) { s.limits.hello = d }

// MoveOn is what Run does at each of its steps.
func (s *Supervisor) MoveOn() { s.moveOn() }

// Moved is when it did so last.
func (s *Supervisor) Moved() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved
}

// Begun says whether Run was called.
func (s *Supervisor) Begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// Enter, Leave, Waiting and Full are the gate as supervisors use it and see it.
func Enter(g *Gate, ctx context.Context, left <-chan struct{}, urgent bool) bool { //nolint:revive // the gate comes first, as a receiver would
	return g.enter(ctx, left, urgent)
}

func Leave(g *Gate) { g.leave() }

func Waiting(g *Gate) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

func Full(g *Gate) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.free == 0
}
