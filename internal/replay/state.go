package replay

import (
	"errors"
	"math/bits"

	"tund/internal/wire"
)

// ErrState says that a State cannot be that of any window.
var ErrState = errors.New("replay window inconsistent")

// State is what a Window remembers, so that another one can go on in its place. It does
// not depend on how a Window works.
type State struct {
	Next     wire.PacketNumber // the highest number that has passed, plus one; 0: none has
	Received uint64            // different numbers that have passed

	// Seen has a bit for each number of the window: bit i%64 of word i/64 says that
	// Next-1-i has passed.
	Seen [Size / 64]uint64
}

// State returns what w remembers.
func (w *Window) State() State {
	s := State{Next: w.next, Received: w.received}
	for i := range s.held() {
		n := w.next - 1 - i
		if w.ring[block(n)]&bit(n) != 0 {
			s.Seen[i/64] |= 1 << (i % 64)
		}
	}
	return s
}

// Window returns a window that goes on from s. It returns [ErrState] for what no
// window remembers.
func (s *State) Window() (Window, error) {
	if !s.valid() {
		return Window{}, ErrState
	}
	w := Window{next: s.Next, received: s.Received}
	for i := range s.held() {
		if s.has(i) {
			n := s.Next - 1 - i
			w.ring[block(n)] |= bit(n)
		}
	}
	return w, nil
}

// held is how many numbers the window holds.
func (s *State) held() wire.PacketNumber { return min(s.Next, Size) }

func (s *State) has(i wire.PacketNumber) bool { return s.Seen[i/64]>>(i%64)&1 != 0 }

// valid says whether the highest number has passed, none below zero has, and Received
// can be their count.
func (s *State) valid() bool {
	seen := uint64(0)
	for _, word := range s.Seen {
		seen += uint64(bits.OnesCount64(word))
	}
	for i := s.held(); i < Size; i++ {
		if s.has(i) {
			return false
		}
	}
	below := uint64(s.Next - s.held())
	return (s.Next == 0 || s.has(0)) && s.Received >= seen && s.Received-seen <= below
}
