package peer

import (
	"slices"
	"testing"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/session"
	"tund/internal/wire"
)

func at(k keys.KeyID, g keys.Generation) slotID { return slotID{k, g} }

// ringOf makes a ring whose slots have their key id times 100 plus generation as index.
func ringOf(ids ...slotID) (r *ring, released *[]wire.Index) {
	released = new([]wire.Index)
	r = &ring{release: func(i wire.Index) { *released = append(*released, i) }}
	for _, id := range ids {
		r.add(slot{id: id, index: wire.Index(int(id.Key)*100 + int(id.Generation))})
	}
	return r, released
}

func (r *ring) ids() (ids []slotID) {
	for _, s := range r.slots {
		ids = append(ids, s.id)
	}
	return ids
}

func TestTheRingIsInOrderHoweverItIsFilled(t *testing.T) {
	r, _ := ringOf(at(1, 0), at(3, 0), at(2, 0), at(1, 1), at(3, 1))
	if got, want := r.ids(), []slotID{at(1, 0), at(1, 1), at(2, 0), at(3, 0), at(3, 1)}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

func TestALaterGenerationIsAsOldAsItsEpoch(t *testing.T) {
	r, _ := ringOf()
	r.add(slot{id: at(5, 0), epoch: 3, aead: keys.AES256GCM, born: time.Minute})
	r.add(slot{id: at(5, 1)})
	if s := r.find(at(5, 1)); s.epoch != 3 || s.aead != keys.AES256GCM || s.born != time.Minute {
		t.Errorf("%+v", s)
	}
}

func TestTheNewestSlotThatIsNotDoomedSends(t *testing.T) {
	r, _ := ringOf(at(1, 0), at(2, 0), at(3, 0))
	if r.sending() != nil || r.newest() != (slotID{}) || r.confirmed() != nil {
		t.Error("nothing has been switched to yet")
	}
	r.find(at(1, 0)).sends, r.find(at(2, 0)).sends = true, true
	r.find(at(1, 0)).confirmed = true
	if r.newest() != at(2, 0) || r.confirmed().id != at(1, 0) {
		t.Errorf("%v sends, %v is confirmed", r.newest(), r.confirmed().id)
	}
	r.doom(0)
	if r.sending() != nil || r.confirmed() != nil {
		t.Error("a doomed slot sends")
	}
	r.add(slot{id: at(4, 0), sends: true})
	if r.newest() != at(4, 0) {
		t.Error("what came after the goodbye does not send")
	}
}

func TestOnlyWhatIsOlderThanAConfirmedSlotIsRetired(t *testing.T) {
	r, released := ringOf(at(1, 0), at(2, 0), at(2, 1), at(3, 0))
	if _, ok := r.nextRetirement(); ok {
		t.Error("nothing is confirmed")
	}
	r.find(at(1, 0)).confirmed = true // there is nothing older
	if _, ok := r.nextRetirement(); ok {
		t.Error("the oldest retires nothing")
	}
	s := r.find(at(2, 1))
	s.confirmed, s.confirmedAt = true, time.Minute
	if when, ok := r.nextRetirement(); !ok || when != time.Minute {
		t.Errorf("%v %t", when, ok)
	}
	if _, ok := r.retirable(time.Minute - 1); ok {
		t.Error("too early")
	}
	id, ok := r.retirable(time.Minute)
	if !ok || id != at(2, 1) {
		t.Fatalf("%v %t", id, ok)
	}
	r.retire(id)
	if !slices.Equal(r.ids(), []slotID{at(2, 1), at(3, 0)}) || !slices.Equal(*released, []wire.Index{100, 200}) {
		t.Errorf("left %v, released %v", r.ids(), *released)
	}
}

func TestDropTakesOneGenerationOrTheWholeKey(t *testing.T) {
	r, released := ringOf(at(1, 0), at(2, 0), at(2, 1), at(2, 2))
	r.drop(at(2, 1))
	if !slices.Equal(r.ids(), []slotID{at(1, 0), at(2, 0), at(2, 2)}) {
		t.Errorf("%v", r.ids())
	}
	r.drop(at(2, 0))
	if !slices.Equal(r.ids(), []slotID{at(1, 0)}) {
		t.Errorf("%v", r.ids())
	}
	r.clear()
	if len(r.ids()) != 0 || !slices.Equal(*released, []wire.Index{201, 200, 202, 100}) {
		t.Errorf("left %v, released %v", r.ids(), *released)
	}
}

func TestTheRingIsFullOfKeysBeforeItIsFullOfGenerations(t *testing.T) {
	r, _ := ringOf()
	for k := range keys.KeyID(pipe.MaxKeys) {
		if r.full(true) {
			t.Fatalf("full with %d keys", k)
		}
		r.add(slot{id: at(k+1, 0), given: true})
	}
	r.add(slot{id: at(99, 0)}) // waits: the child has not been given it
	if !r.full(true) || r.full(false) {
		t.Errorf("full for a key %t, for a generation %t", r.full(true), r.full(false))
	}
	for g := range keys.Generation(pipe.MaxSlots - pipe.MaxKeys) {
		r.add(slot{id: at(1, g+1), given: true})
	}
	if !r.full(false) {
		t.Error("never full")
	}
}

// A ring of slots that the child has been given, each of the session that its key id picks.
func sessionRing(of func(keys.KeyID) *session.Session, ids ...slotID) *ring {
	r, _ := ringOf(ids...)
	for i := range r.slots {
		r.slots[i].given, r.slots[i].from = true, of(r.slots[i].id.Key)
	}
	return r
}

func manyKeys(count int) (ids []slotID) {
	for k := range count {
		ids = append(ids, at(keys.KeyID(k+1), 0))
	}
	return ids
}

func TestOnlyUnusedSlotsOfSessionsThatHaveEndedAreDisplaced(t *testing.T) {
	now, before := new(session.Session), new(session.Session)
	live := func(s *session.Session) bool { return s == now }
	ended := func(keys.KeyID) *session.Session { return before }
	tests := []struct {
		name   string
		of     func(keys.KeyID) *session.Session
		slots  []slotID
		change func(r *ring)
		newKey bool
		want   slotID
	}{
		{"the oldest key goes first", ended, manyKeys(pipe.MaxKeys), nil, true, at(1, 0)},
		{"one that is confirmed stays", ended, manyKeys(pipe.MaxKeys), func(r *ring) { r.slots[0].confirmed = true }, true, at(2, 0)},
		{"one that is sent with stays", ended, manyKeys(1), func(r *ring) { r.slots[0].sends = true }, true, slotID{}},
		{"one that was sent with before goes", ended, manyKeys(2), func(r *ring) {
			r.slots[0].sends, r.slots[1].sends = true, true
		}, true, at(1, 0)},
		{"one that the child keeps stays", ended, manyKeys(2), func(r *ring) { r.slots[0].kept = true }, true, at(2, 0)},
		{"one that the child does not have stays", ended, manyKeys(1), func(r *ring) { r.slots[0].given = false }, true, slotID{}},
		{"those of this session stay", func(k keys.KeyID) *session.Session {
			if k <= 3 {
				return now
			}
			return before
		}, manyKeys(pipe.MaxKeys), nil, true, at(4, 0)},
		{"a key of an earlier tund goes", func(keys.KeyID) *session.Session { return nil }, manyKeys(1), nil, true, at(1, 0)},
		{"a generation goes alone where its key is used", ended, []slotID{at(1, 0), at(1, 1), at(1, 2)}, func(r *ring) {
			r.slots[0].confirmed, r.slots[2].sends = true, true
		}, false, at(1, 1)},
		{"generation 0 goes with its key only", ended, []slotID{at(1, 0), at(1, 1)}, func(r *ring) {
			r.slots[1].sends = true
		}, false, slotID{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sessionRing(tt.of, tt.slots...)
			if tt.change != nil {
				tt.change(r)
			}
			if got, ok := r.displaceable(tt.newKey, live); got != tt.want || ok != (tt.want != slotID{}) {
				t.Errorf("%v, not %v", got, tt.want)
			}
		})
	}
}

// Where the keys are too many, a generation alone makes no room.
func TestARingThatIsFullOfKeysDisplacesAWholeKey(t *testing.T) {
	ids := append(manyKeys(pipe.MaxKeys), at(1, 1))
	r := sessionRing(func(keys.KeyID) *session.Session { return nil }, ids...)
	r.find(at(1, 0)).confirmed = true
	id, ok := r.displaceable(true, func(*session.Session) bool { return false })
	if !ok || id != at(2, 0) {
		t.Fatalf("%v %t", id, ok)
	}
	r.displacing(id)
	if !r.leaving() || !r.full(true) {
		t.Error("it has gone before the child has said so")
	}
	r.displaced(id, true)
	if r.leaving() || r.find(id) == nil {
		t.Error("what the child keeps has gone")
	}
	r.displaced(at(3, 0), false)
	if r.find(at(3, 0)) != nil || r.full(true) {
		t.Error("there is no room")
	}
}
