package journal

import "sync"

// queueSize bounds the bytes that wait to be written.
const queueSize = 1 << 20

// A queue holds entries for one writer. Who puts something in never waits. Once it was full
// it takes nothing until the writer has emptied it, so there is one gap, and one count of it.
type queue struct {
	wake chan struct{} // room for one: there is something to do

	mu      sync.Mutex // guards what follows
	entries []entry
	size    int
	dropped uint64          // for lack of room; if not 0, there is none
	busy    bool            // the writer has not come to rest
	waiting []chan struct{} // to be closed when it does
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) put(e entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dropped > 0 || q.size+e.size() > queueSize {
		q.dropped++
	} else {
		q.entries, q.size = append(q.entries, e), q.size+e.size()
	}
	q.busy = true
	q.signal()
}

// signal wakes the writer.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next returns the oldest entry.
func (q *queue) next() (e entry, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) == 0 {
		return entry{}, false
	}
	e, q.entries[0] = q.entries[0], entry{}
	q.entries, q.size = q.entries[1:], q.size-e.size()
	return e, true
}

// takeDropped returns how many entries found no room since the last call, if the queue is empty.
func (q *queue) takeDropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) > 0 {
		return 0
	}
	n := q.dropped
	q.dropped = 0
	return n
}

// rest is called by the writer when it has nothing to do.
func (q *queue) rest() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) > 0 {
		return // somebody was quicker, and has signalled
	}
	q.busy, q.entries = false, nil
	for _, c := range q.waiting {
		close(c)
	}
	q.waiting = nil
}

// flushed returns what is closed once the writer has nothing to do.
func (q *queue) flushed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := make(chan struct{})
	if q.busy {
		q.waiting = append(q.waiting, c)
	} else {
		close(c)
	}
	return c
}
