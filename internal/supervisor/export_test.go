package supervisor

import "time"

// What the tests look at from inside.
var (
	NextBackoff = nextBackoff
	Jitter      = jitter
	Environment = environment
)

// SetLimits makes a test of time-outs fast.
func (s *Supervisor) SetLimits(hello, answer, grace time.Duration) {
	s.limits = limits{hello: hello, answer: answer, grace: grace}
}

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
