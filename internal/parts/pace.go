package parts

import "time"

// The times of the rule.
const (
	// Settle is how long a change of the system may be followed by others, as with `ip addr flush`.
	Settle = 50 * time.Millisecond
	// Patience is the least time between two tries.
	Patience = time.Second
	// Again is when what is missing is tried without a sign that it can be had.
	Again = 10 * time.Second
	// Longest is the longest pause in a fight with somebody who takes away what is put back.
	Longest = time.Minute
)

// Pace says when to try again what is missing, and when to put back what was taken. It knows no
// clock: all times come in. The zero value has tried nothing.
type Pace struct {
	tried  time.Time     // the last try
	mended time.Time     // the last one that had to put something back
	pause  time.Duration // after that
}

// Next is the earliest time of a try after a sign, at now, that one may be of use.
func (p *Pace) Next(now time.Time) time.Time {
	next := now.Add(Settle)
	for _, other := range []time.Time{p.tried.Add(Patience), p.mended.Add(p.pause)} {
		if other.After(next) {
			next = other
		}
	}
	return next
}

// Fights reports whether somebody takes away, again and again, what is put back, so that it is left
// alone for a while at now.
func (p *Pace) Fights(now time.Time) bool {
	return p.pause > Patience && now.Before(p.mended.Add(p.pause))
}

// Tried notes a try. mended says that it had to put something back: the pause doubles each time this
// happens soon after the pause before.
func (p *Pace) Tried(now time.Time, mended bool) {
	if mended {
		p.pause = p.pauseAfter(now)
		p.mended = now
	}
	p.tried = now
}

func (p *Pace) pauseAfter(now time.Time) time.Duration {
	if p.pause == 0 || now.After(p.mended.Add(2*p.pause)) {
		return Patience
	}
	return min(2*p.pause, Longest)
}
