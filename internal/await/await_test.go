package await_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/await"
)

// lingers are how long the waits under test linger: not at all, shorter than they
// wait, and longer.
var lingers = []time.Duration{0, time.Millisecond, 500 * time.Millisecond}

// block is long enough for a goroutine to reach its system call, and to be past a short
// linger.
const block = 30 * time.Millisecond

type result struct {
	ready, stopped int16
	err            error
}

// start waits on a goroutine, and returns its thread and where its result comes.
func start(t *testing.T, linger time.Duration, fd, stop int) (thread int, done chan result) {
	t.Helper()
	threads := make(chan int, 1)
	done = make(chan result, 1)
	go func() { // ends when fd or stop is ready
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		threads <- unix.Gettid()
		w := await.Waiter{Linger: linger}
		hurry(&w)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		err := w.Wait(fds)
		done <- result{fds[0].Revents, fds[1].Revents, err}
	}()
	thread = <-threads
	select {
	case r := <-done:
		t.Fatalf("did not wait: %+v", r)
	case <-time.After(block):
	}
	return thread, done
}

// hurry has waits end in quick succession, after which the next one lingers.
func hurry(w *await.Waiter) {
	for range 8 {
		_ = w.Wait([]unix.PollFd{{Fd: 1 << 20}}) // not open: that is said at once
	}
}

func end(t *testing.T, done chan result) result {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(time.Minute):
		t.Fatal("waits still")
		return result{}
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func each(t *testing.T, test func(t *testing.T, linger time.Duration)) {
	for _, linger := range lingers {
		t.Run(fmt.Sprint(linger), func(t *testing.T) { test(t, linger) })
	}
}

func TestWaitEndsWhenTheDescriptorIsReady(t *testing.T) {
	each(t, func(t *testing.T, linger time.Duration) {
		r, w := pipe(t)
		stop, _ := pipe(t)
		_, done := start(t, linger, int(r.Fd()), int(stop.Fd()))
		if _, err := w.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if got, want := end(t, done), (result{ready: unix.POLLIN}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

func TestWaitEndsWhenStopIsReadableAsWell(t *testing.T) {
	each(t, func(t *testing.T, linger time.Duration) {
		r, w := pipe(t)
		_, done := start(t, linger, int(r.Fd()), int(r.Fd()))
		if _, err := w.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if got, want := end(t, done), (result{ready: unix.POLLIN, stopped: unix.POLLIN}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

func TestWaitEndsWhenStopIsHungUp(t *testing.T) {
	each(t, func(t *testing.T, linger time.Duration) {
		r, _ := pipe(t)
		stop, w := pipe(t)
		_, done := start(t, linger, int(r.Fd()), int(stop.Fd()))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := end(t, done), (result{stopped: unix.POLLHUP}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

func TestWaitGoesOnAfterASignal(t *testing.T) {
	each(t, func(t *testing.T, linger time.Duration) {
		r, w := pipe(t)
		thread, done := start(t, linger, int(r.Fd()), -1)
		for range 3 {
			if err := unix.Tgkill(unix.Getpid(), thread, unix.SIGURG); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case got := <-done:
			t.Fatalf("a signal ended it: %+v", got)
		case <-time.After(block):
		}
		_ = w.Close()
		if got, want := end(t, done), (result{ready: unix.POLLHUP}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

func TestWaitReportsAClosedDescriptor(t *testing.T) {
	each(t, func(t *testing.T, linger time.Duration) {
		w := await.Waiter{Linger: linger}
		hurry(&w)
		fds := []unix.PollFd{{Fd: 1 << 20, Events: unix.POLLIN}}
		if err := w.Wait(fds); fds[0].Revents != unix.POLLNVAL || err != nil {
			t.Errorf("%#x, %v", fds[0].Revents, err)
		}
	})
}

func TestWaitReturnsTheErrorOfTheKernel(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) })
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	for _, linger := range lingers { // two descriptors are more than may be asked about
		w := await.Waiter{Linger: linger}
		if err := w.Wait(make([]unix.PollFd, 2)); !errors.Is(err, unix.EINVAL) {
			t.Errorf("linger %v: %v", linger, err)
		}
	}
}

func TestWaitDoesNotAllocate(t *testing.T) {
	r, w := pipe(t)
	_ = w.Close()
	fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
	for _, linger := range lingers {
		w := await.Waiter{Linger: linger}
		hurry(&w)
		if n := testing.AllocsPerRun(100, func() { _ = w.Wait(fds) }); n != 0 {
			t.Errorf("linger %v: %v allocations", linger, n)
		}
	}
}
