// Package await blocks a goroutine in ppoll(2) until a descriptor is ready, in
// the way that costs a packet loop least.
//
// The runtime takes a goroutine's P, its right to run Go code, away when a system call
// lasts longer than some microseconds. To see that, its watchdog (sysmon) wakes up
// every 20 microseconds; after the call the goroutine looks for a P again, often on
// another thread. Under load that costs as much as a copy of all packets. So a
// [Waiter] can linger: for a while it waits without telling the runtime, and then
// nothing stands between the packet and the goroutine. When nothing has come for so long, it
// waits as everybody does, and the whole process sleeps. It does so at once if little has
// come lately: all the while that it lingers, the watchdog goes on.
package await

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Waiter is what one goroutine waits with. The zero value does not linger.
type Waiter struct {
	// Linger is how long a wait keeps its P, if the last few began within such a time. A program needs more Ps (GOMAXPROCS) than
	// goroutines that linger at the same time, or its other goroutines stand still
	// meanwhile.
	Linger time.Duration

	timeout unix.Timespec // a field, as a local would escape to the heap
	lately  record
}

// record is when the last waits began, on the clock of package time. The zero value says
// that they were long ago.
type record struct {
	at   [4]time.Time
	next int
}

// busy notes a wait that begins now, and says whether all of the last ones began within a
// time before.
func (r *record) busy(now time.Time, within time.Duration) bool {
	oldest := r.at[r.next]
	r.at[r.next] = now
	r.next = (r.next + 1) % len(r.at)
	return now.Sub(oldest) < within
}

// Wait blocks until something is said of one of fds, which it notes there, as poll(2)
// does. A negative descriptor is passed over.
func (w *Waiter) Wait(fds []unix.PollFd) error {
	n, errno := 0, unix.Errno(0)
	if w.Linger > 0 && w.lately.busy(time.Now(), w.Linger) {
		n, errno = w.linger(fds)
	}
	for n == 0 && errno == 0 || errno == unix.EINTR {
		n, errno = w.block(fds)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// linger polls for some time without telling the runtime. It returns 0 when that is over.
//
// The watchdog interrupts it when it has had the P for 10 ms, and wants the goroutine
// to make way for others. That is done at once: later, when there is a packet, it would wake
// a thread and cost that packet some 50 microseconds.
func (w *Waiter) linger(fds []unix.PollFd) (int, unix.Errno) {
	w.timeout = unix.NsecToTimespec(int64(w.Linger)) // the kernel leaves in it what is left
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)),
			uintptr(unsafe.Pointer(&w.timeout)), 0, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
		runtime.Gosched()
	}
}

// block polls without end.
func (w *Waiter) block(fds []unix.PollFd) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)), 0, 0, 0, 0)
	return int(n), errno
}
