package datapath

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// While a loop carries bulk, most of what a packet waits for is that the loop gets a processor: the
// fair scheduler lets a woken thread wait until the running one has had its slice, some
// milliseconds, even where another processor idles meanwhile. A thread with real-time priority
// (sched(7)) runs at once, and on the processor that has room. So a loop that carries much by each
// turn asks the parent for the lowest such priority. Not one whose turns carry little, for which it pays
// to be late, nor one that hardly sleeps and would keep others from running.
//
// A loop that runs at once is woken for each super-packet, and that takes time from programs
// that have work to do. So one with the priority has its turns at intervals, as network cards
// have their interrupts: it sleeps for the rest of one, and finds more to carry by then.

const (
	// priorityWindow is the time that a loop looks at before it decides.
	priorityWindow = 10 * time.Millisecond
	// bulkTurn is how many bytes the turns of a window carry on average where a loop
	// becomes urgent. It stays so down to half of that.
	bulkTurn = 16 << 10
	// maxBusy is how much of a processor an urgent loop may use on average, in per cent. In the average
	// the last window has one part of busyParts. In a window with maxWindow it has not slept.
	maxBusy   = 80
	maxWindow = 97
	busyParts = 8
	// askAgainAfter is the time from one request to the next, at least. lateRaise after the last
	// one, it has been granted or never will be. A parent takes back after some seconds what is not asked for again
	// by then, every renewAfter.
	askAgainAfter = 50 * time.Millisecond
	lateRaise     = time.Second
	renewAfter    = time.Second
	// turnInterval is the time from the beginning of a turn to that of the next, at least, of
	// a loop with the priority. Less than minSleep is not worth a sleep.
	turnInterval = 150 * time.Microsecond
	minSleep     = 20 * time.Microsecond
)

// Thread is the thread of the system that a goroutine runs on, which alone calls it.
type Thread interface {
	// Hold keeps the goroutine on its thread until Release, and returns the thread's id.
	Hold() int
	Release()
	// Used is the processor time that the thread has taken so far.
	Used() time.Duration
	// Raised says whether the thread has real-time priority.
	Raised() bool
	// Sleep may end early.
	Sleep(d time.Duration)
	// Lower takes its real-time priority from the thread, if it has any.
	Lower()
}

// priority decides when a loop is urgent. It belongs to the loop.
type priority struct {
	thread Thread           // nil: the loop never is
	raise  func(thread int) // asks for the priority; lowering needs nobody

	// The window.
	began time.Duration
	bytes uint64 // that were carried before
	turns int

	held  bool          // the goroutine keeps its thread, and used and busy are kept
	id    int           // of the thread
	used  time.Duration // up to this window
	busy  time.Duration // average, in per cent
	high  bool          // asked for, and not given back since
	asked time.Duration // when it was asked for last

	raised bool          // what was asked for is there
	turned time.Duration // when the last turn began, if so
}

// begin is called before each turn.
func (p *priority) begin(now func() time.Duration) {
	if p.raised {
		p.turned = now()
	}
}

// rest is called after each turn. It sleeps for the rest of the interval.
func (p *priority) rest(now time.Duration) {
	if left := p.turned + turnInterval - now; p.raised && left >= minSleep {
		p.thread.Sleep(left)
	}
}

// turn is called after each turn, with all the bytes that were carried so far.
func (p *priority) turn(now time.Duration, bytes uint64) {
	p.turns++
	elapsed := now - p.began
	if p.thread == nil || elapsed < priorityWindow {
		return
	}
	enough := uint64(bulkTurn)
	if p.high {
		enough /= 2
	}
	bulk := elapsed < 2*priorityWindow && bytes-p.bytes >= enough*uint64(p.turns)
	switch {
	case p.held:
		p.decide(now, elapsed, bulk)
	case bulk:
		p.id, p.held = p.thread.Hold(), true
		p.used, p.busy = p.thread.Used(), 0
	}
	p.began, p.bytes, p.turns = now, bytes, 0
}

// decide does what follows from a window.
func (p *priority) decide(now, elapsed time.Duration, bulk bool) {
	used := p.thread.Used()
	busy := (used - p.used) * 100 / elapsed
	p.busy += (busy - p.busy) / busyParts
	p.used = used
	p.raised = p.high && p.thread.Raised()
	again := askAgainAfter
	if p.high {
		again = renewAfter
	}
	switch urgent := bulk && busy < maxWindow && p.busy <= maxBusy; {
	case urgent && now-p.asked >= again:
		p.high, p.asked = true, now
		p.raise(p.id)
	case !urgent && (p.high || now-p.asked < lateRaise):
		p.high, p.raised = false, false
		p.thread.Lower()
	case !bulk && !p.high:
		p.held = false
		p.thread.Release()
	}
}

// SystemThread is the Thread of whichever goroutine calls it.
type SystemThread struct{}

// Hold implements Thread.
func (SystemThread) Hold() int {
	runtime.LockOSThread()
	return unix.Gettid()
}

// Release implements Thread.
func (SystemThread) Release() { runtime.UnlockOSThread() }

// Used implements Thread, by clock_gettime(2).
func (SystemThread) Used() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // every Linux has this clock
	return time.Duration(t.Nano())
}

// Raised implements Thread, by sched_getscheduler(2).
func (t SystemThread) Raised() bool { return t.has(unix.SCHED_RR) }

// Usual says whether the thread is scheduled as all are for whom nobody has chosen otherwise
// (SCHED_OTHER). Only such a one can be a Thread, as Lower makes it that again.
func (t SystemThread) Usual() bool { return t.has(unix.SCHED_NORMAL) }

func (SystemThread) has(policy uintptr) bool {
	now, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	return errno == 0 && now&^unix.SCHED_RESET_ON_FORK == policy
}

// Sleep implements Thread, by nanosleep(2): the goroutine keeps its P.
func (SystemThread) Sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// Lower implements Thread, by sched_setscheduler(2), which is always allowed to.
func (SystemThread) Lower() {
	// The second flag came with the priority, and is not the child's to clear.
	const policy = unix.SCHED_NORMAL | unix.SCHED_RESET_ON_FORK
	none := int32(0)
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&none)))
}
