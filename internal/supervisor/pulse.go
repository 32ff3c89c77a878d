package supervisor

import "time"

// pulseSlack is what a loaded machine may add to the longest wait of a Supervisor.
const pulseSlack = 10 * time.Second

// Stalled tells whether Run has not moved on for longer than anything that it waits for may
// take: a process that does not die when it is killed, or that does not start, or an owner that
// takes no events. Whatever the child does otherwise, Run replaces it. It is safe for concurrent use.
func (s *Supervisor) Stalled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.moved.IsZero() && time.Since(s.moved) > s.longestWait()+pulseSlack
}

// longestWait is that of a timer; none waits for a second one.
func (s *Supervisor) longestWait() time.Duration {
	return max(s.o.Heartbeat, s.limits.hello, s.limits.answer, s.limits.grace, maxBackoff+maxBackoff/5)
}

// moveOn notes that Run is alive.
func (s *Supervisor) moveOn() { s.setMoved(time.Now()) }

// rest notes that Run has ended, or has not come to its first child yet.
func (s *Supervisor) rest() { s.setMoved(time.Time{}) }

func (s *Supervisor) setMoved(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = t
}
