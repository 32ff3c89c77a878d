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
// whatever is small is never dropped.
const (
	standingBytes = 192 << 10             // that may always wait in the socket, in long runs
	standingAlone = 768 << 10             // the same where datagrams come one by one
	askAfter      = 16 << 10              // bytes received, after which the socket is asked
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

// drop says whether a datagram is to be lost now that so many bytes of the buffer are in use.
// One by one, datagrams take more of it for as much payload, and more time: with less under
// way, flows over a wire that splits runs left the processors idle.
func (s *standing) drop(backlog int, long bool, now time.Duration) bool {
	limit := standingAlone
	if long {
		limit = standingBytes
	}
	if backlog <= limit {
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
