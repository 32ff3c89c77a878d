package lab

import (
	"crypto/sha256"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// beat is how long a Pace sleeps at a time.
	beat = 5 * time.Millisecond
	// piece is the processor time of a piece of its work: about that of the start of a
	// program. rest is the time between two of them.
	piece = 20 * time.Millisecond
	rest  = 100 * time.Millisecond
)

// Pace watches how promptly this machine wakes who has slept, how long a piece of work takes,
// how long the kernel's lock of all networks is waited for, and how long a program takes to start and
// end. Where any of these takes long, other work holds the processors or a lock, and no program's own
// time can be told. All are needed: who has slept is often woken at once where who has to work waits for
// its share, whoever makes a device waits for all others who do, and whoever is killed is not gone
// before its threads have had what they need for that.
type Pace struct {
	stop    chan struct{}
	watches sync.WaitGroup

	mu   sync.Mutex
	late time.Duration
}

// WantInTime fails the test if what measure returns is longer than it may be. Where it is
// while the machine was kept from its work by something else, it is measured again, a few
// times, each when the machine has come to rest.
func WantInTime(tb TB, what string, bar time.Duration, measure func() time.Duration) {
	tb.Helper()
	const tries = 8
	for range tries {
		pace := StartPace()
		took := measure()
		late := pace.Stop()
		tb.Logf("%s: %v; other work came %v late at worst", what, took.Round(time.Millisecond), late.Round(time.Millisecond))
		if took <= bar {
			return
		}
		if late < bar/20 {
			tb.Errorf("%s: %v, want at most %v", what, took, bar)
			return
		}
		awaitRest(bar / 20)
	}
	tb.Errorf("%s: more than %v each of %d times, on a machine that is too busy to tell why", what, bar, tries)
}

// awaitRest waits, but not for ever, until nothing comes later than it may for a while.
func awaitRest(late time.Duration) {
	const while = 500 * time.Millisecond
	for start := time.Now(); time.Since(start) < Patience/3; {
		pace := StartPace()
		pace.pause(while)
		if pace.Stop() < late {
			return
		}
	}
}

// StartPace begins to watch.
func StartPace() *Pace {
	p := &Pace{stop: make(chan struct{})}
	p.watches.Go(p.sleep) // all end with Stop
	p.watches.Go(p.work)
	p.watches.Go(p.network)
	p.watches.Go(p.process)
	return p
}

func (p *Pace) sleep() {
	for due := time.Now().Add(beat); p.pause(beat); due = time.Now().Add(beat) {
		p.note(time.Since(due))
	}
}

func (p *Pace) work() {
	runtime.LockOSThread() // whose processor time counts
	defer runtime.UnlockOSThread()
	var sum [sha256.Size]byte
	for p.pause(rest) {
		begun, used := time.Now(), processorTime()
		for processorTime()-used < piece {
			sum = sha256.Sum256(sum[:])
		}
		p.note(time.Since(begun) - piece)
	}
}

// network asks for what the kernel tells only under its lock of all networks.
func (p *Pace) network() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return // nothing is made in a network here
	}
	defer func() { _ = unix.Close(fd) }()
	for p.pause(beat) {
		begun := time.Now()
		_, _ = unix.IoctlGetEthtoolDrvinfo(fd, "lo") // whatever the answer is
		p.note(time.Since(begun))
	}
}

// process starts a program that does nothing and waits for its end.
func (p *Pace) process() {
	for p.pause(rest) {
		begun := time.Now()
		if exec.Command("true").Run() != nil {
			return // nothing is started here
		}
		p.note(time.Since(begun) - piece)
	}
}

// processorTime is what the calling thread has used.
func processorTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return time.Duration(1<<63 - 1) // ends the work
	}
	return time.Duration(ts.Nano())
}

// pause reports false when the watch ends.
func (p *Pace) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.stop:
		return false
	}
}

func (p *Pace) note(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = max(p.late, late)
}

// Stop ends the watch and returns the longest time by which either came late.
func (p *Pace) Stop() time.Duration {
	close(p.stop)
	p.watches.Wait()
	return p.late
}
