package replay_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"tund/internal/replay"
	"tund/internal/wire"
)

// resumed is a window that goes on where w stopped.
func resumed(t *testing.T, w *replay.Window) *replay.Window {
	t.Helper()
	s := w.State()
	next, err := s.Window()
	if err != nil {
		t.Fatal(err)
	}
	if next.State() != s {
		t.Fatal("the state changed by the way")
	}
	return &next
}

func TestAResumedWindowAgreesWithASlowOneThatNeverStopped(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 2))
		w, s := &replay.Window{}, &slow{passed: map[wire.PacketNumber]bool{}}
		for i := range 5000 {
			if i%97 == 0 {
				w = resumed(t, w)
			}
			compare(t, w, s, nextNumber(random, s.next))
		}
	}
}

func TestAResumedWindowStillRefusesWhatHasPassed(t *testing.T) {
	for _, first := range []wire.PacketNumber{0, 1, 63, 64, 8191, 8192, 16383, 16384, 1 << 40, 1<<64 - 9000} {
		var w replay.Window
		for i := range wire.PacketNumber(replay.Size) {
			if i%3 != 1 {
				w.Commit(first + i)
			}
		}
		w = *resumed(t, &w)
		for i := range wire.PacketNumber(replay.Size) {
			if got, want := w.Commit(first+i), i%3 == 1; got != want {
				t.Fatalf("first %d: Commit(%d) = %v", first, first+i, got)
			}
		}
	}
}

func TestAStateOfNoWindowIsRefused(t *testing.T) {
	tests := map[string]replay.State{
		"received without a number":    {Received: 1},
		"a bit without a number":       {Seen: [128]uint64{1}},
		"the highest has not passed":   {Next: 5, Received: 1, Seen: [128]uint64{2}},
		"a number below zero":          {Next: 2, Received: 2, Seen: [128]uint64{5}},
		"fewer received than passed":   {Next: 2, Received: 1, Seen: [128]uint64{3}},
		"more received than there are": {Next: 2, Received: 3, Seen: [128]uint64{3}},
		"more received than were below the window": {
			Next: replay.Size + 1, Received: 3, Seen: [128]uint64{1},
		},
	}
	for name, s := range tests {
		if _, err := s.Window(); !errors.Is(err, replay.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := replay.State{Next: replay.Size + 1, Received: 2, Seen: [128]uint64{1}}
	if _, err := good.Window(); err != nil {
		t.Error(err)
	}
}

// FuzzState takes any state: what makes a window is its state again.
func FuzzState(f *testing.F) {
	f.Add(uint64(0), uint64(0), []byte{})
	f.Add(uint64(3), uint64(2), []byte{0, 0, 0, 0, 0, 0, 0, 5})
	f.Add(uint64(1<<64-1), uint64(1<<63), []byte{255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, next, received uint64, seen []byte) {
		s := replay.State{Next: wire.PacketNumber(next), Received: received}
		for i := range s.Seen {
			if len(seen) < 8 {
				break
			}
			s.Seen[i], seen = binary.BigEndian.Uint64(seen), seen[8:]
		}
		w, err := s.Window()
		if err != nil {
			return
		}
		if w.State() != s || w.Received() != received || w.Missing() != next-received {
			t.Errorf("%d received, %d missing", w.Received(), w.Missing())
		}
		if s.Next > 0 && w.Check(s.Next-1) {
			t.Error("the highest number passes again")
		}
	})
}
