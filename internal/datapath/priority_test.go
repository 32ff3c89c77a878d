package datapath

import (
	"testing"
	"time"
)

// fakeThread is a Thread whose time is told to it.
type fakeThread struct {
	used time.Duration
	held bool
	high bool // by a parent that grants it at once
	asks int
	lows int
	deaf bool // the parent grants nothing

	slept []time.Duration
}

func (f *fakeThread) Hold() int           { f.held = true; return 42 }
func (f *fakeThread) Release()            { f.held = false }
func (f *fakeThread) Used() time.Duration { return f.used }
func (f *fakeThread) Raised() bool        { return f.high }
func (f *fakeThread) Sleep(d time.Duration) {
	f.slept = append(f.slept, d)
}
func (f *fakeThread) Lower() { f.high = false; f.lows++ }

// load is a loop under test, with what it has lived through so far.
type load struct {
	t *testing.T
	f fakeThread
	p priority

	now   time.Duration
	bytes uint64
}

func newLoad(t *testing.T) *load {
	l := &load{t: t, now: time.Hour}
	l.p.thread = &l.f
	l.p.raise = func(thread int) {
		if thread != 42 || !l.f.held {
			t.Errorf("asks for thread %d, held %v", thread, l.f.held)
		}
		l.f.high = !l.f.deaf
		l.f.asks++
	}
	return l
}

// go on for d with a turn each ms, which carries so many bytes and takes a part of the processor
// in per cent.
func (l *load) live(d time.Duration, bytes uint64, busy time.Duration) {
	for range d / time.Millisecond {
		l.now += time.Millisecond
		l.f.used += time.Millisecond * busy / 100
		l.bytes += bytes
		l.p.turn(l.now, l.bytes)
	}
}

func (l *load) want(what string, high, held bool) {
	l.t.Helper()
	if l.f.high != high || l.f.held != held {
		l.t.Errorf("%s: urgent %v, want %v; held %v, want %v", what, l.f.high, high, l.f.held, held)
	}
}

const sleep = 3 * lateRaise

func TestALoopIsUrgentWhileItCarriesBulk(t *testing.T) {
	l := newLoad(t)
	l.live(time.Second, 2000, 30)
	l.want("small turns", false, false)
	l.live(5*priorityWindow, 60<<10, 60)
	l.want("bulk", true, true)
	l.live(renewAfter-20*priorityWindow, bulkTurn*2/3, 60)
	l.want("less bulk", true, true)
	if l.f.asks != 1 || l.f.lows != 0 {
		t.Errorf("asked %d times, lowered %d times", l.f.asks, l.f.lows)
	}
	l.live(3*priorityWindow, 2000, 30)
	l.want("small turns again", false, true)
	l.live(lateRaise, 2000, 30)
	l.want("small turns for longer", false, false)
}

func TestALoopThatSleepsIsNotUrgent(t *testing.T) {
	l := newLoad(t)
	l.live(5*priorityWindow, 60<<10, 60)
	l.want("bulk", true, true)
	l.now += time.Minute
	l.live(time.Millisecond, 60<<10, 60)
	l.want("one large turn in a minute", false, true)
	for range 100 {
		l.now += 3 * priorityWindow
		l.live(time.Millisecond, 60<<10, 60)
	}
	l.want("large turns, rarely", false, false)
}

func TestALoopThatHardlySleepsIsNotUrgent(t *testing.T) {
	l := newLoad(t)
	l.live(200*time.Millisecond, 60<<10, 75)
	l.want("busy", true, true)
	l.live(3*priorityWindow, 60<<10, 95)
	l.want("too busy for a moment", true, true)
	l.live(2*priorityWindow, 60<<10, 99)
	l.want("without sleep", false, true)
	l.live(200*time.Millisecond, 60<<10, 75)
	l.want("less busy", true, true)
	l.live(200*time.Millisecond, 60<<10, 99)
	l.want("too busy", false, true)
	asks := l.f.asks
	l.live(sleep, 60<<10, 99)
	l.want("too busy for long", false, true)
	if l.f.asks != asks {
		t.Errorf("asked %d times more", l.f.asks-asks)
	}
	l.live(time.Second, 60<<10, 60)
	l.want("less busy", true, true)
}

// What was busy before is of no account where bulk begins anew.
func TestTheAverageBeginsWithTheBulk(t *testing.T) {
	l := newLoad(t)
	l.live(5*priorityWindow, 60<<10, 60)
	l.live(sleep, 100, 100)
	l.want("small turns", false, false)
	l.live(5*priorityWindow, 60<<10, 60)
	l.want("bulk again", true, true)
}

// A parent may grant what was asked for when that is over.
func TestALateGrantIsGivenBack(t *testing.T) {
	l := newLoad(t)
	l.live(5*priorityWindow, 60<<10, 60)
	l.live(5*priorityWindow, 2000, 30)
	l.f.high = true
	l.live(2*priorityWindow, 2000, 30)
	l.want("after the late grant", false, true)
}

func TestRequestsAreRare(t *testing.T) {
	l := newLoad(t)
	for range 100 {
		l.live(2*priorityWindow, 60<<10, 60)
		l.live(2*priorityWindow, 100, 10)
	}
	if most := int(100 * 4 * priorityWindow / askAgainAfter); l.f.asks == 0 || l.f.asks > most {
		t.Errorf("asked %d times, at most %d", l.f.asks, most)
	}
}

// What the parent has taken back comes again, and without it the loop does not rest.
func TestALoopRenewsWhatItHasAskedFor(t *testing.T) {
	l := newLoad(t)
	const long = 20
	l.live(long*time.Second, 60<<10, 60)
	l.want("bulk", true, true)
	if l.f.asks < long-2 || l.f.asks > long+1 {
		t.Errorf("asked %d times in %d s", l.f.asks, long)
	}
	l.f.high = false
	l.live(2*priorityWindow, 60<<10, 60)
	l.p.begin(func() time.Duration { return l.now })
	if l.p.rest(l.now); l.f.slept != nil {
		t.Errorf("without the priority it slept %v", l.f.slept)
	}
	l.live(renewAfter, 60<<10, 60)
	l.want("renewed", true, true)
}

// Turns of a loop with the priority begin at intervals.
func TestALoopWithThePriorityRestsBetweenItsTurns(t *testing.T) {
	l := newLoad(t)
	turn := func(took time.Duration) (slept []time.Duration) {
		l.f.slept = nil
		l.p.begin(func() time.Duration { return l.now })
		l.p.rest(l.now + took)
		return l.f.slept
	}
	if slept := turn(0); slept != nil {
		t.Errorf("without bulk it slept %v", slept)
	}
	l.live(5*priorityWindow, 60<<10, 60)
	for took, want := range map[time.Duration]time.Duration{
		0:                          turnInterval,
		turnInterval / 3:           turnInterval * 2 / 3,
		turnInterval - minSleep:    minSleep,
		turnInterval - minSleep/2:  0,
		turnInterval:               0,
		turnInterval + time.Second: 0,
	} {
		slept := turn(took)
		if want == 0 && slept != nil || want > 0 && (len(slept) != 1 || slept[0] != want) {
			t.Errorf("after a turn of %v it slept %v, want %v", took, slept, want)
		}
	}
	l.live(3*priorityWindow, 100, 10)
	if slept := turn(0); slept != nil {
		t.Errorf("when it was no longer urgent it slept %v", slept)
	}
}

func TestALoopThatWasRefusedThePriorityDoesNotRest(t *testing.T) {
	l := newLoad(t)
	l.f.deaf = true
	l.live(5*priorityWindow, 60<<10, 60)
	l.p.begin(func() time.Duration { return l.now })
	if l.p.rest(l.now); l.f.asks == 0 || l.f.slept != nil {
		t.Errorf("asked %d times, slept %v", l.f.asks, l.f.slept)
	}
}

func TestALoopWithoutAThreadIsNeverUrgent(t *testing.T) {
	l := newLoad(t)
	l.p.thread = nil
	l.live(time.Second, 60<<10, 60)
	l.want("bulk", false, false)
}

func TestDecidingAllocatesNothing(t *testing.T) {
	l := newLoad(t)
	if n := testing.AllocsPerRun(10, func() { l.live(time.Second, 60<<10, 60); l.live(time.Second, 10, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTheSystemsThread(t *testing.T) {
	var thread SystemThread
	id := thread.Hold()
	defer thread.Release()
	before, rounds := thread.Used(), 0
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		rounds++
	}
	if used := thread.Used() - before; id == 0 || used <= 0 || used > time.Second {
		t.Errorf("thread %d has used %v for %d rounds", id, used, rounds)
	}
	began := time.Now()
	thread.Sleep(time.Millisecond)
	if slept := time.Since(began); slept < time.Millisecond/10 || slept > time.Minute {
		t.Errorf("slept %v", slept)
	}
	thread.Lower() // which it may without any right
	if thread.Raised() || !thread.Usual() {
		t.Errorf("after it was lowered: raised %v, as usual %v", thread.Raised(), thread.Usual())
	}
}
