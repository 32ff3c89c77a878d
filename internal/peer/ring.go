package peer

import (
	"slices"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/session"
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

// within tells whether a is b or, where b's generation is 0, one of that key's.
func (a slotID) within(b slotID) bool {
	return a == b || b.Generation == 0 && a.Key == b.Key
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
	doomedAt    time.Duration
	aead        keys.AEAD
	from        *session.Session // that has brought it; nil: one of an earlier tund
	leaving     bool             // the child was asked to displace it
	kept        bool             // the child has refused to: it is in use, and is going to be confirmed
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
	r.remove(func(s slot) bool { return s.id.within(id) })
}

// doom marks all slots of now, so that the end of the drain spares what came since.
func (r *ring) doom(now time.Duration) {
	for i := range r.slots {
		if s := &r.slots[i]; !s.doomed {
			s.doomed, s.doomedAt = true, now
		}
	}
}

// full tells whether the child has no room for a new key, or for one more IV
// generation of a key that it has.
func (r *ring) full(newKey bool) bool {
	given := 0
	for _, s := range r.slots {
		if s.given {
			given++
		}
	}
	return given >= pipe.MaxSlots || r.fullOfKeys(newKey)
}

func (r *ring) fullOfKeys(newKey bool) bool {
	held := make(map[keys.KeyID]bool)
	for _, s := range r.slots {
		if s.given {
			held[s.id.Key] = true
		}
	}
	return newKey && len(held) >= pipe.MaxKeys
}

// hasRoom tells whether the child has room for a new key, or for one more IV generation, or
// would have it once something is displaced.
func (r *ring) hasRoom(newKey bool, live func(*session.Session) bool) bool {
	_, ok := r.displaceable(newKey, live)
	return ok || r.leaving() || !r.full(newKey)
}

// displaceable returns what makes room for a new key, or for one more IV generation, when the
// child has none: the oldest slot that never came into use, of a session that has ended. With
// generation 0 it is the whole key. A peer that sends in a slot would have confirmed it by its
// PROBEs, wherever they can arrive; and the newest, in which it may send, goes last.
func (r *ring) displaceable(newKey bool, live func(*session.Session) bool) (slotID, bool) {
	sending := r.newest()
	unused := func(s slot) bool {
		return s.given && !s.confirmed && !s.kept && s.id != sending && !live(s.from)
	}
	used := make(map[keys.KeyID]bool) // keys with a slot that has to stay
	for _, s := range r.slots {
		used[s.id.Key] = used[s.id.Key] || !unused(s)
	}
	for _, s := range r.slots {
		switch {
		case !used[s.id.Key]:
			return slotID{Key: s.id.Key}, true
		case unused(s) && s.id.Generation != 0 && !r.fullOfKeys(newKey):
			return s.id, true
		}
	}
	return slotID{}, false
}

// displacing marks what the child was asked to displace.
func (r *ring) displacing(id slotID) {
	for i := range r.slots {
		r.slots[i].leaving = r.slots[i].leaving || r.slots[i].id.within(id)
	}
}

// displaced takes the child's answer: gone, or kept.
func (r *ring) displaced(id slotID, kept bool) {
	if !kept {
		r.drop(id)
		return
	}
	for i := range r.slots {
		if s := &r.slots[i]; s.id.within(id) {
			s.leaving, s.kept = false, true
		}
	}
}

// leaving tells whether the child has yet to answer what it was asked to displace.
func (r *ring) leaving() bool {
	return slices.ContainsFunc(r.slots, func(s slot) bool { return s.leaving })
}

func (r *ring) clear() { r.remove(func(slot) bool { return true }) }
