package peer

import (
	"math"

	"tund/internal/pipe"
)

// loss tells what the peer has sent in the present session and what of it has not arrived.
// The child counts what comes, and the gaps in the packet numbers, which are the peer's to
// choose: whatever they say, what is shown stays between nothing and all.
type loss struct {
	known bool       // the beginning is
	begin pipe.Stats // what the child had counted then
}

// countAnew begins with the child's next counters, for which it asks.
func (p *Peer) countAnew() {
	p.loss = loss{}
	p.child.seq++
	_ = p.send(pipe.GetStats{Seq: p.child.seq}) // without a child there is nothing to count
}

// take notes the first counters of a session, or of a child.
func (l *loss) take(s pipe.Stats) {
	if !l.known {
		l.known, l.begin = true, s
	}
}

// since returns how many packets of the peer were lost until now, and which share of all
// that it sent; nil where it has sent none.
func (l loss) since(now pipe.Stats) (lost uint64, share *float64) {
	if !l.known {
		return 0, nil
	}
	lost, arrived := risen(l.begin.Missing, now.Missing), risen(l.begin.Received, now.Received)
	if lost == 0 && arrived == 0 {
		return 0, nil
	}
	part := float64(lost) / (float64(lost) + float64(arrived))
	return lost, &part
}

// risen is by how much a total has risen. It is a sum modulo 2^64 and falls, too, when a
// packet that was missing arrives late.
func risen(from, to uint64) uint64 {
	if d := to - from; d <= math.MaxInt64 {
		return d
	}
	return 0
}
