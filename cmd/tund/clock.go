package main

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// boottime is CLOCK_BOOTTIME, which goes on while the machine is suspended. It takes a
// system call.
func boottime() time.Duration {
	var now unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		panic("tund: internal error: no boottime clock: " + errno.Error())
	}
	return time.Duration(now.Nano())
}

// clock is CLOCK_BOOTTIME for those who ask at every packet: mostly without a system call,
// by Go's clock, which is CLOCK_MONOTONIC. The two differ by the time that the machine was
// suspended. Of a suspend the clock knows after clockAge of other time. It is safe
// for concurrent use.
type clock struct {
	boottime, monotonic func() time.Duration

	ahead atomic.Int64 // what boottime is ahead of monotonic
	asked atomic.Int64 // when that was last asked, by monotonic
}

const (
	clockAge   = 100 * time.Millisecond
	clockSlack = time.Millisecond // within which two readings were taken at once
	clockTries = 3
)

func newClock() *clock {
	begin := time.Now()
	return makeClock(boottime, func() time.Duration { return time.Since(begin) })
}

func makeClock(boottime, monotonic func() time.Duration) *clock {
	c := &clock{boottime: boottime, monotonic: monotonic}
	m := monotonic()
	c.ahead.Store(int64(boottime() - m))
	c.asked.Store(int64(m))
	return c
}

// now returns the time. Where a reading was held up it may go back by what a suspend shorter than
// twice clockSlack has left unnoticed.
func (c *clock) now() time.Duration {
	m := c.monotonic()
	if m-time.Duration(c.asked.Load()) < clockAge {
		return m + time.Duration(c.ahead.Load())
	}
	return c.ask(m)
}

// ask compares the clocks again. Nothing but a suspend moves them against each other, so
// what differs by less is the time between the two readings.
func (c *clock) ask(before time.Duration) time.Duration {
	for range clockTries {
		b, after := c.boottime(), c.monotonic()
		if after-before < clockSlack {
			if ahead := c.ahead.Load(); b-before >= time.Duration(ahead)+2*clockSlack {
				c.ahead.CompareAndSwap(ahead, int64(b-before))
			}
			c.asked.Store(int64(before))
			return before + time.Duration(c.ahead.Load())
		}
		before = after
	}
	return c.boottime() // held up again and again: the next call tries anew
}
