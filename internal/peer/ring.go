package peer

import (
	"slices"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/wire"
)

// slotID names one IV generation of one key. Later ones are greater: a higher
// key id, and under one key a higher generation.
type slotID struct {
	Key        keys.KeyID
	Generation keys.Generation
}

func (a slotID) before(b slotID) bool {
	if a.Key != b.Key {
		return a.Key < b.Key
	}
	return a.Generation < b.Generation
}

// slot is what the parent knows of one slot of the child's keyring: never a key.
type slot struct {
	id          slotID
	epoch       keys.Epoch
	index       wire.Index    // our receive index, given back when the slot ends
	at          time.Duration // when it was handed to the child
	born        time.Duration // when the epoch's key was derived; shared by its generations
	given       bool          // the child has been told of it
	confirmed   bool          // an authentic packet has arrived in it
	sends       bool          // the child has sent in it, or does
	confirmedAt time.Duration
	doomed      bool // the other side has said goodbye: it goes after the drain
	aead        keys.AEAD
}

// ring is the parent's picture of its child's keyring, oldest slot first. It
// is owned by the peer's Run goroutine; release gives an index back.
type ring struct {
	slots   []slot
	release func(wire.Index)
}

// add puts a slot in its place: two sessions may bring theirs out of order. A later
// generation of a key is as old as its epoch.
func (r *ring) add(s slot) {
	if older := r.ofKey(s.id.Key); older != nil {
		s.born, s.epoch, s.aead = older.born, older.epoch, older.aead
	}
	place := slices.IndexFunc(r.slots, func(other slot) bool { return s.id.before(other.id) })
	if place < 0 {
		place = len(r.slots)
	}
	r.slots = slices.Insert(r.slots, place, s)
}

func (r *ring) ofKey(k keys.KeyID) *slot {
	for i := range r.slots {
		if r.slots[i].id.Key == k {
			return &r.slots[i]
		}
	}
	return nil
}

func (r *ring) find(id slotID) *slot {
	for i := range r.slots {
		if r.slots[i].id == id {
			return &r.slots[i]
		}
	}
	return nil
}

// newest returns the newest slot that the child sends in; zero if there is none.
func (r *ring) newest() slotID {
	if s := r.sending(); s != nil {
		return s.id
	}
	return slotID{}
}

// sending returns the slot that the child sends in: the newest that was
// switched to. It is nil when there is none, or the other side no longer holds it.
func (r *ring) sending() *slot {
	for i := len(r.slots) - 1; i >= 0; i-- {
		if r.slots[i].sends && !r.slots[i].doomed {
			return &r.slots[i]
		}
	}
	return nil
}

// confirmed returns the newest slot in which an authentic packet has arrived.
func (r *ring) confirmed() *slot {
	for i := len(r.slots) - 1; i >= 0; i-- {
		if r.slots[i].confirmed && !r.slots[i].doomed {
			return &r.slots[i]
		}
	}
	return nil
}

// retirable returns the newest slot confirmed at or before t that has older ones.
func (r *ring) retirable(t time.Duration) (slotID, bool) {
	for i := len(r.slots) - 1; i > 0; i-- {
		if s := r.slots[i]; s.confirmed && s.confirmedAt <= t {
			return s.id, true
		}
	}
	return slotID{}, false
}

// nextRetirement returns the earliest confirmation of a slot that has older ones.
func (r *ring) nextRetirement() (at time.Duration, ok bool) {
	for i := 1; i < len(r.slots); i++ {
		if s := r.slots[i]; s.confirmed && (!ok || s.confirmedAt < at) {
			at, ok = s.confirmedAt, true
		}
	}
	return at, ok
}

// remove drops the slots that match and gives their indexes back.
func (r *ring) remove(match func(slot) bool) {
	r.slots = slices.DeleteFunc(r.slots, func(s slot) bool {
		if match(s) {
			r.release(s.index)
			return true
		}
		return false
	})
}

func (r *ring) retire(before slotID) {
	r.remove(func(s slot) bool { return s.id.before(before) })
}

// drop forgets an aborted slot; generation 0 stands for the whole key.
func (r *ring) drop(id slotID) {
	r.remove(func(s slot) bool {
		return s.id == id || id.Generation == 0 && s.id.Key == id.Key
	})
}

// doom marks all slots of now, so that the end of the drain spares what came since.
func (r *ring) doom() {
	for i := range r.slots {
		r.slots[i].doomed = true
	}
}

// full tells whether the child has no room for a new key, or for one more IV
// generation of a key that it has.
func (r *ring) full(newKey bool) bool {
	given, held := 0, make(map[keys.KeyID]bool)
	for _, s := range r.slots {
		if s.given {
			given++
			held[s.id.Key] = true
		}
	}
	return given >= pipe.MaxSlots || newKey && len(held) >= pipe.MaxKeys
}

func (r *ring) clear() { r.remove(func(slot) bool { return true }) }
