package keys_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"tund/internal/keys"
	"tund/internal/wire"
)

// clock is a time that the test moves.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func allocate(t *testing.T, x *keys.Indexes) wire.Index {
	t.Helper()
	index, err := x.Allocate()
	if err != nil || index == 0 || index > wire.MaxIndex {
		t.Fatalf("Allocate = %#x, %v", index, err)
	}
	return index
}

func TestIndexesAreDifferentWhileTaken(t *testing.T) {
	x := keys.NewIndexes(time.Now)
	seen := map[wire.Index]bool{}
	for range 20_000 { // by chance alone, some ten of these would be equal
		index := allocate(t, x)
		if seen[index] {
			t.Fatalf("index %#x given out twice", index)
		}
		seen[index] = true
	}
}

func TestIndexesRestAMinuteBeforeReuse(t *testing.T) {
	c := &clock{time.Now()}
	x := keys.NewIndexes(c.read)
	x.SetLimit(100)
	taken := fill(t, x)
	if _, err := x.Allocate(); !errors.Is(err, keys.ErrIndexes) {
		t.Fatalf("Allocate error = %v, want %v", err, keys.ErrIndexes)
	}
	x.Release(taken)
	x.Release(taken)
	c.now = c.now.Add(time.Minute - time.Nanosecond)
	if _, err := x.Allocate(); !errors.Is(err, keys.ErrIndexes) {
		t.Fatalf("Allocate error before a minute = %v, want %v", err, keys.ErrIndexes)
	}
	c.now = c.now.Add(time.Nanosecond)
	allocate(t, x)
	if _, err := x.Allocate(); !errors.Is(err, keys.ErrIndexes) {
		t.Fatalf("Allocate after one was released = %v, want %v", err, keys.ErrIndexes)
	}
}

// fill takes all indexes there are, and returns the last.
func fill(t *testing.T, x *keys.Indexes) wire.Index {
	t.Helper()
	index := allocate(t, x)
	for {
		next, err := x.Allocate()
		if err != nil {
			return index
		}
		index = next
	}
}

func TestReleasingWhatIsNotTakenDoesNothing(t *testing.T) {
	x := keys.NewIndexes(time.Now)
	x.Release(0)
	x.Release(5)
	allocate(t, x)
}

func TestIndexesAreSafeForConcurrentUse(t *testing.T) {
	x := keys.NewIndexes(time.Now)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 200 {
				index, err := x.Allocate()
				if err != nil {
					t.Error(err)
				}
				x.Release(index)
			}
		})
	}
	wait.Wait()
}

func TestIndexesOfAnEarlierProcessAreNotGivenOut(t *testing.T) {
	c := &clock{time.Now()}
	x := keys.NewIndexes(c.read)
	if err := x.Reserve(7); err != nil {
		t.Fatal(err)
	}
	for _, taken := range []wire.Index{7, 0, wire.MaxIndex + 1} {
		if err := x.Reserve(taken); !errors.Is(err, keys.ErrIndexTaken) {
			t.Errorf("Reserve(%#x) = %v, want %v", taken, err, keys.ErrIndexTaken)
		}
	}
	x.Rest(8)
	x.Rest(7) // in use: it stays so
	if err := x.Reserve(8); !errors.Is(err, keys.ErrIndexTaken) {
		t.Errorf("Reserve of an index at rest = %v", err)
	}
	if got := x.Resting(); len(got) != 1 || got[0] != 8 {
		t.Errorf("at rest: %v, want 8", got)
	}
	c.now = c.now.Add(time.Minute)
	if got := x.Resting(); len(got) != 0 {
		t.Errorf("at rest after a minute: %v", got)
	}
	if err := x.Reserve(8); err != nil {
		t.Errorf("Reserve of an index that has rested: %v", err)
	}
}
