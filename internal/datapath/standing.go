package datapath

import (
	"math"
	"time"
)

// What a TCP flow has under way grows until something is lost. Where the receiving
// child is the slowest part of the way, all of that comes to stand in its socket, as much
// as the buffer holds, and everything else waits behind it. So a queue that stands is
// answered by early loss: single datagrams of bulk flows, at intervals by CoDel's
// control law (RFC 8289), but by bytes. A queue that empties at times is no matter, and
// whatever does not come in long runs, or is small, is never dropped.
const (
	standingBytes = 192 << 10             // that may always wait in the socket
	standingTime  = 5 * time.Millisecond  // for which more may wait
	standingGap   = time.Millisecond      // between two losses, at least
	forgetAfter   = 50 * time.Millisecond // without a standing queue the past counts no more
)

// standing decides about early losses. It belongs to inbound.
type standing struct {
	above  time.Duration // since when the queue is too long; 0: it is not
	next   time.Duration // when the next loss is due
	last   time.Duration // when there was one
	losses int           // since the queue began to stand
}

// drop says whether a datagram is to be lost now that so many bytes wait.
func (s *standing) drop(backlog int, now time.Duration) bool {
	if backlog <= standingBytes {
		s.above = 0
		return false
	}
	if s.above == 0 {
		s.above = max(now, 1)
		if now-s.last > forgetAfter {
			s.losses = 0
		}
		s.next = now + s.gap()
		return false
	}
	if now < s.next {
		return false
	}
	s.losses++
	s.last, s.next = now, now+s.gap()
	return true
}

// gap is the time from one loss to the next.
func (s *standing) gap() time.Duration {
	return max(standingGap, time.Duration(float64(standingTime)/math.Sqrt(float64(s.losses+1))))
}
