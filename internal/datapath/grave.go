package datapath

import (
	"slices"
	"time"
)

// buryAfter is how long an ended key waits for a loop that was at work when it ended.
const buryAfter = 20 * time.Millisecond

// grave is a key that no table has any more. A loop that was at work when the present
// table was published may still use it, but not once that work is done.
type grave struct {
	epoch   *epoch
	out, in uint64 // the turns of the loops at that time
}

// bury overwrites the ended keys that no loop uses.
func (c *control) bury() {
	c.graves = slices.DeleteFunc(c.graves, func(g grave) bool {
		if !c.out.turn.left(g.out) || !c.in.turn.left(g.in) {
			return false
		}
		g.epoch.wipe()
		return true
	})
}

// left says whether the work that was under way, if any, when n was read has ended.
func (t *turn) left(n uint64) bool {
	now := t.n.Load()
	return now%2 == 0 || now != n
}
