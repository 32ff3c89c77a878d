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
