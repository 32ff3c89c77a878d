package replay_test

import (
	"math/rand/v2"
	"testing"

	"tund/internal/replay"
	"tund/internal/wire"
)

// slow is the window in the obvious way: a set of all numbers that have passed.
type slow struct {
	passed map[wire.PacketNumber]bool
	next   wire.PacketNumber
}

func (s *slow) commit(n wire.PacketNumber) bool {
	if n == 1<<64-1 || s.passed[n] || n < s.next && s.next-n > replay.Size {
		return false
	}
	s.passed[n] = true
	s.next = max(s.next, n+1)
	return true
}

// compare commits n to both and fails the test where they differ.
func compare(t *testing.T, w *replay.Window, s *slow, n wire.PacketNumber) {
	t.Helper()
	before := *w
	check := w.Check(n)
	if *w != before {
		t.Fatalf("Check(%d) changed the window", n)
	}
	want := s.commit(n)
	if got := w.Commit(n); got != want || check != want {
		t.Fatalf("Check(%d), Commit(%d) = %v, %v, want %v (next %d)", n, n, check, got, want, s.next)
	}
	if got, want := w.Received(), uint64(len(s.passed)); got != want {
		t.Fatalf("Received() = %d, want %d", got, want)
	}
	if got, want := w.Missing(), uint64(s.next)-uint64(len(s.passed)); got != want {
		t.Fatalf("Missing() = %d, want %d", got, want)
	}
}

func TestWindowAgreesWithASlowOneOnRandomTraffic(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		w, s := &replay.Window{}, &slow{passed: map[wire.PacketNumber]bool{}}
		for range 5000 {
			compare(t, w, s, nextNumber(random, s.next))
		}
	}
}

// nextNumber is traffic with loss, reordering, duplicates and jumps of every size.
func nextNumber(random *rand.Rand, next wire.PacketNumber) wire.PacketNumber {
	switch random.IntN(10) {
	case 0:
		return next - min(next, wire.PacketNumber(random.Uint64N(replay.Size+200)))
	case 1, 2:
		return next - min(next, wire.PacketNumber(random.Uint64N(130)))
	case 3:
		return next + wire.PacketNumber(random.Uint64N(300))
	case 4:
		if random.IntN(20) == 0 {
			return next + wire.PacketNumber(random.Uint64N(5*replay.Size))
		}
	}
	return next
}

func TestWindowAcceptsEveryNumberOnceInAnyOrder(t *testing.T) {
	for _, first := range []wire.PacketNumber{0, 1, 63, 64, 65, 8191, 8192, 16383, 16384, 1 << 40} {
		var w replay.Window
		for _, i := range rand.Perm(replay.Size) {
			n := first + wire.PacketNumber(i)
			if !w.Commit(n) {
				t.Fatalf("first %d: Commit(%d) = false the first time", first, n)
			}
			if w.Commit(n) {
				t.Fatalf("first %d: Commit(%d) = true the second time", first, n)
			}
		}
		if got := w.Missing(); got != uint64(first) {
			t.Errorf("first %d: Missing() = %d, want %d", first, got, first)
		}
	}
}

func TestWindowEdges(t *testing.T) {
	const top = 1<<64 - 1
	tests := map[string]struct {
		commit []wire.PacketNumber
		n      wire.PacketNumber
		want   bool
	}{
		"zero is a number":                   {nil, 0, true},
		"zero passes once":                   {[]wire.PacketNumber{0}, 0, false},
		"a first number may be any":          {nil, 1 << 63, true},
		"oldest in the window passes":        {[]wire.PacketNumber{replay.Size}, 1, true},
		"one older than the window does not": {[]wire.PacketNumber{replay.Size}, 0, false},
		"oldest passes once":                 {[]wire.PacketNumber{1, replay.Size}, 1, false},
		"a jump over the ring forgets":       {[]wire.PacketNumber{5, 5 + 16384}, 5 + 16384 - 1, true},
		"a far jump leaves no old bit":       {[]wire.PacketNumber{64, 64 + 1<<20}, 1 << 20, true},
		"the last but one passes":            {nil, top - 1, true},
		"the last one never":                 {nil, top, false},
		"nor after the last but one":         {[]wire.PacketNumber{top - 1}, top, false},
		"below the last but one":             {[]wire.PacketNumber{top - 1}, top - 64, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var w replay.Window
			for _, n := range tt.commit {
				if !w.Commit(n) {
					t.Fatalf("Commit(%d) = false", n)
				}
			}
			if got := w.Check(tt.n); got != tt.want {
				t.Errorf("Check(%d) = %v, want %v", tt.n, got, tt.want)
			}
			if got := w.Commit(tt.n); got != tt.want {
				t.Errorf("Commit(%d) = %v, want %v", tt.n, got, tt.want)
			}
		})
	}
}

func TestNewWindowHasReceivedAndMissedNothing(t *testing.T) {
	var w replay.Window
	if w.Received() != 0 || w.Missing() != 0 {
		t.Errorf("Received, Missing = %d, %d, want 0, 0", w.Received(), w.Missing())
	}
}

func TestWindowDoesNotAllocate(t *testing.T) {
	var w replay.Window
	var n wire.PacketNumber
	allocs := testing.AllocsPerRun(1000, func() {
		n += 3
		if !w.Check(n) || !w.Commit(n) {
			t.Fatal("refused")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

// FuzzWindow reads its input as steps: each two bytes move the number up or down.
func FuzzWindow(f *testing.F) {
	f.Add(uint64(0), []byte{0, 1, 0, 1, 255, 255})
	f.Add(uint64(1<<63), []byte{127, 255, 128, 0, 0, 64})
	f.Add(uint64(1<<64-100), []byte{0, 50, 0, 60, 0, 99})
	f.Fuzz(func(t *testing.T, first uint64, steps []byte) {
		w, s := &replay.Window{}, &slow{passed: map[wire.PacketNumber]bool{}}
		n := wire.PacketNumber(first)
		for ; len(steps) >= 2; steps = steps[2:] {
			compare(t, w, s, n)
			n += wire.PacketNumber(int64(int16(uint16(steps[0])<<8 | uint16(steps[1]))))
		}
	})
}

func BenchmarkWindowInOrder(b *testing.B) {
	b.ReportAllocs()
	var w replay.Window
	var n wire.PacketNumber
	for b.Loop() {
		w.Check(n)
		w.Commit(n)
		n++
	}
}
