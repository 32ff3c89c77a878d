package supervisor

import (
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second

	// healthy is how long a child must have lived for its end to count as a first.
	healthy = time.Minute
)

// nextBackoff is the time to wait before a restart, after current before the last one. The
// first restart, of a child that was healthy, does not wait at all: current is 0 then.
func nextBackoff(current time.Duration) time.Duration {
	return min(max(2*current, minBackoff), maxBackoff)
}

// jitter spreads d by up to a fifth, so that many children that died together do not
// come back together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d + rand.N(d/5)
}
