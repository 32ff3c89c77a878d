package session

import "time"

const (
	backoffFirst = 250 * time.Millisecond
	backoffLast  = 30 * time.Second
)

// Backoff is how long to wait before dialling again after so many failures in a row, at
// least one: exponential, with full jitter, so that many peers of a restarted node do not
// come at once. Random is a number in [0, 1), the caller's.
func Backoff(failures int, random float64) time.Duration {
	limit := backoffFirst
	for n := 1; n < failures && limit < backoffLast; n++ {
		limit *= 2
	}
	return time.Duration(random * float64(min(limit, backoffLast)))
}
