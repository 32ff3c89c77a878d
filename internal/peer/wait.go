package peer

import (
	"tund/internal/ctl"
	"tund/internal/pipe"
)

// waiters are the commands that wait for something to happen. Each waits on a
// channel of its own with room for one answer, so that no answer ever blocks the
// Run goroutine; who gives up waiting just leaves the channel behind.
type waiters struct {
	exchanges []exchangeWaiter
	slots     waitlist[slotID, error]
	probes    waitlist[uint64, pipe.ProbeResult]
	counters  waitlist[uint64, pipe.Stats]
	settings  waitlist[uint64, struct{}]
	states    []chan ctl.State
}

// waitlist keeps who waits for which key.
type waitlist[K comparable, V any] map[K][]chan V

func (w *waitlist[K, V]) add(k K) <-chan V {
	if *w == nil {
		*w = make(waitlist[K, V])
	}
	c := make(chan V, 1)
	(*w)[k] = append((*w)[k], c)
	return c
}

func (w waitlist[K, V]) answer(k K, v V) {
	for _, c := range w[k] {
		c <- v
	}
	delete(w, k)
}

func (w waitlist[K, V]) answerAll(v V) {
	for k := range w {
		w.answer(k, v)
	}
}

// exchangeWaiter waits for the end of an exchange that brings something newer than
// from. A new epoch also serves who asked for a new generation; not the other way
// round.
type exchangeWaiter struct {
	epoch bool
	from  slotID
	c     chan exchangeEnd
}

// exchangeEnd is how an exchange ended.
type exchangeEnd struct {
	epoch bool   // REKEY, not REIV
	id    slotID // what is in force now
	err   error
}

func (w *waiters) addExchange(epoch bool, from slotID) <-chan exchangeEnd {
	c := make(chan exchangeEnd, 1)
	w.exchanges = append(w.exchanges, exchangeWaiter{epoch, from, c})
	return c
}

func (w *waiters) exchange(end exchangeEnd) {
	kept := w.exchanges[:0]
	for _, e := range w.exchanges {
		if e.epoch && !end.epoch || end.err == nil && !e.from.before(end.id) {
			kept = append(kept, e)
			continue
		}
		e.c <- end
	}
	w.exchanges = kept
}

// unserved tells what is still waited for: a new epoch, a new IV generation.
func (w *waiters) unserved() (epoch, iv bool) {
	for _, e := range w.exchanges {
		epoch, iv = epoch || e.epoch, iv || !e.epoch
	}
	return epoch, iv
}

// exchangesLost answers everybody: there is no session any more.
func (w *waiters) exchangesLost(err error) {
	if err == nil {
		err = errClosed
	}
	w.exchange(exchangeEnd{epoch: true, err: err})
}

func (w *waiters) addState() <-chan ctl.State {
	c := make(chan ctl.State, 1)
	w.states = append(w.states, c)
	return c
}

func (w *waiters) state(to ctl.State) {
	for _, c := range w.states {
		c <- to
	}
	w.states = nil
}

func (w *waiters) confirmed(id slotID)      { w.slots.answer(id, nil) }
func (w *waiters) stats(m pipe.Stats)       { w.counters.answer(m.Seq, m) }
func (w *waiters) probe(m pipe.ProbeResult) { w.probes.answer(m.ID, m) }
func (w *waiters) configured(seq uint64)    { w.settings.answer(seq, struct{}{}) }

// childGone answers all that only the child could have answered.
func (w *waiters) childGone() {
	w.slots.answerAll(errChildGone)
	w.probes.answerAll(pipe.ProbeResult{})
	w.counters.answerAll(pipe.Stats{LastReceived: -1})
	w.settings.answerAll(struct{}{})
}
