package main

import (
	"testing"
	"time"
)

// hands are two clocks that a test moves.
type hands struct {
	monotonic, suspended time.Duration
	asked                int           // how often boottime was
	delay                time.Duration // that passes while boottime is asked
}

func (h *hands) clock() *clock {
	return makeClock(func() time.Duration {
		h.asked++
		now := h.monotonic + h.suspended
		h.monotonic += h.delay
		return now
	}, func() time.Duration { return h.monotonic })
}

func TestClockIsBoottime(t *testing.T) {
	c := newClock()
	for range 100 {
		before := boottime()
		got := c.now()
		if after := boottime(); got < before-clockSlack || got > after+clockSlack {
			t.Fatalf("%v, want it between %v and %v", got, before, after)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestClockSeldomAsksTheKernel(t *testing.T) {
	h := hands{suspended: time.Hour}
	c := h.clock()
	for range 1000 {
		h.monotonic += time.Millisecond
		if got, want := c.now(), h.monotonic+h.suspended; got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if h.asked > 12 {
		t.Errorf("asked %d times in a second", h.asked)
	}
}

func TestClockLearnsOfASuspend(t *testing.T) {
	h := hands{}
	c := h.clock()
	for _, suspend := range []time.Duration{3 * clockSlack, time.Minute, 24 * time.Hour} {
		h.suspended += suspend
		h.monotonic += clockAge
		if got, want := c.now(), h.monotonic+h.suspended; got != want {
			t.Errorf("after %v: %v, want %v", suspend, got, want)
		}
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Microsecond, clockSlack / 2, 5 * clockSlack, time.Second} {
		h := hands{suspended: time.Hour}
		c := h.clock()
		h.delay = delay
		last := c.now()
		for i := range 2000 {
			h.monotonic += time.Millisecond
			if i%500 == 0 {
				h.suspended += time.Second
			}
			now := c.now()
			if now < last {
				t.Fatalf("delay %v: %v after %v", delay, now, last)
			}
			last = now
			if off := h.monotonic + h.suspended - now; off < -clockSlack || off > delay+time.Second+2*clockSlack {
				t.Fatalf("delay %v: off by %v", delay, off)
			}
		}
	}
}

func TestClockDoesNotAllocate(t *testing.T) {
	c := newClock()
	if n := testing.AllocsPerRun(1000, func() { c.now() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkClock(b *testing.B) {
	c := newClock()
	for name, now := range map[string]func() time.Duration{"cached": c.now, "kernel": boottime} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				now()
			}
		})
	}
}
