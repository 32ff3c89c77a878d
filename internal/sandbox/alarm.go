package sandbox

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/futex.h: operations on a word of this process only.
const (
	futexWaitPrivate = 0 | 128
	futexWakePrivate = 1 | 128
)

// An Alarm is a timer for a child. Package time's would open an epoll and an event
// descriptor. It costs a thread, which sleeps in a futex.
type Alarm struct {
	c     chan time.Time // room for one tick
	epoch time.Time
	due   atomic.Int64 // since epoch; never: no tick is due

	// changed counts calls of Reset and Stop. It is the futex.
	changed atomic.Uint32
	stopped atomic.Bool
}

const never = -1

// NewAlarm returns an Alarm that is not set.
func NewAlarm() *Alarm {
	a := &Alarm{c: make(chan time.Time, 1), epoch: time.Now()}
	a.due.Store(never)
	return a
}

// C receives a tick when the time has come. A tick that was due just before a Reset may
// still come after it.
func (a *Alarm) C() <-chan time.Time { return a.c }

// Reset sets the alarm to d from now, in place of what it was set to. Like Stop, it is safe
// for concurrent use.
func (a *Alarm) Reset(d time.Duration) {
	a.due.Store(int64(time.Since(a.epoch) + max(d, 0)))
	a.wake()
}

// Stop makes Run return.
func (a *Alarm) Stop() {
	a.stopped.Store(true)
	a.wake()
}

func (a *Alarm) wake() {
	a.changed.Add(1)
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&a.changed)), futexWakePrivate, 1, 0, 0, 0)
}

// Run gives the ticks until Stop is called.
func (a *Alarm) Run() {
	for !a.stopped.Load() {
		seen := a.changed.Load()
		due := a.due.Load()
		if due == never {
			a.wait(seen, nil)
			continue
		}
		if left := due - int64(time.Since(a.epoch)); left > 0 {
			timeout := unix.NsecToTimespec(left)
			a.wait(seen, &timeout)
			continue
		}
		if a.due.CompareAndSwap(due, never) {
			a.tick()
		}
	}
}

func (a *Alarm) tick() {
	select {
	case a.c <- time.Now():
	default: // the last was not taken yet
	}
}

// wait returns at once if there was a change since seen.
func (a *Alarm) wait(seen uint32, timeout *unix.Timespec) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&a.changed)), futexWaitPrivate,
		uintptr(seen), uintptr(unsafe.Pointer(timeout)), 0, 0)
}
