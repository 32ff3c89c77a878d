package keys

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"tund/internal/wire"
)

// indexRest is how long a released index is not given out again, so that a datagram
// still under way cannot meet another key's slot.
const indexRest = 60 * time.Second

// maxIndexes is how many indexes may be taken or at rest at once. Half of the space
// keeps the search for a free one at two tries on average.
const maxIndexes = int(wire.MaxIndex) / 2

// ErrIndexes says that too many indexes are taken.
var ErrIndexes = errors.New("keys: no index free")

// Indexes gives out the indexes of one node: random, not zero, different from all
// that are taken, and not reused for 60 s after their release. One allocator serves
// all peers of a node. It is safe for concurrent use.
type Indexes struct {
	clock func() time.Time
	limit int // how many may be taken or at rest; fewer in a test

	mu      sync.Mutex
	taken   map[wire.Index]bool // true while live, false while at rest
	resting []restingIndex      // in the order of release
}

type restingIndex struct {
	index wire.Index
	until time.Time
}

// NewIndexes returns an allocator that reads the time from clock.
func NewIndexes(clock func() time.Time) *Indexes {
	return &Indexes{clock: clock, limit: maxIndexes, taken: make(map[wire.Index]bool)}
}

// Allocate takes a free index. It returns [ErrIndexes] when half of all are in use.
func (x *Indexes) Allocate() (wire.Index, error) {
	now := x.clock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wakeLocked(now)
	if len(x.taken) >= x.limit {
		return 0, ErrIndexes
	}
	for {
		index := randomIndex()
		if _, found := x.taken[index]; !found && index != 0 {
			x.taken[index] = true
			return index, nil
		}
	}
}

// ErrIndexTaken says that an index is in use, or at rest.
var ErrIndexTaken = errors.New("keys: index is taken")

// Reserve takes the index of a slot that an earlier process of this node has left. It
// must come before others can be allocated.
func (x *Indexes) Reserve(index wire.Index) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, found := x.taken[index]; found || index == 0 || index > wire.MaxIndex {
		return ErrIndexTaken
	}
	x.taken[index] = true
	return nil
}

// Rest keeps an index that an earlier process has released, or would have, from being
// given out for 60 s from now.
func (x *Indexes) Rest(index wire.Index) {
	if x.Reserve(index) == nil {
		x.Release(index)
	}
}

// Resting lists the indexes at rest.
func (x *Indexes) Resting() []wire.Index {
	now := x.clock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wakeLocked(now)
	all := make([]wire.Index, len(x.resting))
	for i, r := range x.resting {
		all[i] = r.index
	}
	return all
}

// Release gives an index back. One that is not live is left alone, so releasing
// twice does no harm.
func (x *Indexes) Release(index wire.Index) {
	now := x.clock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wakeLocked(now)
	if !x.taken[index] {
		return
	}
	x.taken[index] = false
	x.resting = append(x.resting, restingIndex{index, now.Add(indexRest)})
}

// wakeLocked frees what has rested long enough.
func (x *Indexes) wakeLocked(now time.Time) {
	n := 0
	for n < len(x.resting) && !now.Before(x.resting[n].until) {
		delete(x.taken, x.resting[n].index)
		n++
	}
	x.resting = x.resting[n:]
}

func randomIndex() wire.Index {
	var b [4]byte
	_, _ = rand.Read(b[1:]) // never fails: crypto/rand ends the program instead
	return wire.Index(binary.BigEndian.Uint32(b[:]))
}
