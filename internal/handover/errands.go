package handover

import "sync"

// errands are done one after the other, in the order in which they were given, by a
// goroutine that is there while there are any. The zero value has none.
type errands struct {
	mu   sync.Mutex // guards what follows
	todo []errand
	busy bool // somebody does them
}

type errand struct {
	do   func()
	done chan struct{} // closed when it is
}

// add gives an errand, and does not wait for it.
func (e *errands) add(do func()) (done <-chan struct{}) {
	one := errand{do: do, done: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.todo = append(e.todo, one)
	if !e.busy {
		e.busy = true
		go e.run() // ends when there is nothing left to do
	}
	return one.done
}

func (e *errands) run() {
	for {
		one, ok := e.take()
		if !ok {
			return
		}
		one.do()
		close(one.done)
	}
}

func (e *errands) take() (one errand, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.todo) == 0 {
		e.busy = false
		return errand{}, false
	}
	one = e.todo[0]
	e.todo = e.todo[1:]
	return one, true
}
