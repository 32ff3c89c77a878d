package peer

import "time"

// task names one thing that a peer has to do later.
type task uint8

const (
	taskOpen     task = iota // open the tunnel again after a failure
	taskDial                 // dial again
	taskExchange             // begin a REKEY or REIV
	taskRetire               // older receive keys have served their grace
	taskWipe                 // the other side said goodbye: drain is over
	taskDecide               // two sessions: the question to the older one is due
	taskRenew                // the TLS session is a day old
	taskConnect              // connect the data socket again after a failure
	taskCarrier              // an inherited device has shown a carrier without a key for long enough
	taskCount
)

// agenda holds at most one time per task, in CLOCK_BOOTTIME. The zero value is
// empty. It is owned by the peer's Run goroutine.
type agenda struct {
	at [taskCount]time.Duration
	on [taskCount]bool
}

func (a *agenda) set(t task, at time.Duration) { a.at[t], a.on[t] = at, true }

func (a *agenda) clear(t task) { a.on[t] = false }

func (a *agenda) has(t task) bool { return a.on[t] }

// take removes and returns a task that is due at now.
func (a *agenda) take(now time.Duration) (task, bool) {
	for t := range taskCount {
		if a.on[t] && a.at[t] <= now {
			a.on[t] = false
			return t, true
		}
	}
	return 0, false
}

// next returns how long after now the earliest task is due, at most limit.
func (a *agenda) next(now, limit time.Duration) time.Duration {
	for t := range taskCount {
		if a.on[t] {
			limit = min(limit, a.at[t]-now)
		}
	}
	return max(limit, 0)
}
