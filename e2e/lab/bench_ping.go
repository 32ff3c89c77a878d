package lab

import (
	"strconv"
	"time"
)

// PingTimes sends count requests at the given distance, waits for the answers, and
// returns the round trips in the order of their coming and how many were lost.
func (n *Node) PingTimes(address string, count int, interval time.Duration) (times []time.Duration, lost int) {
	n.lab.tb.Helper()
	seconds := strconv.FormatFloat(interval.Seconds(), 'f', -1, 64)
	s := n.ping("-i", seconds, "-W", "1", "-c", strconv.Itoa(count), address)
	result := s.result(s.sent)
	for _, reply := range s.replies {
		times = append(times, reply.took)
	}
	return times, result.Lost
}
