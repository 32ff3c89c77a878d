package await

import (
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the watchdog asks for by a signal is done at once, and the wait goes on as it was.
func TestASignalDoesNotEndLingering(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	type result struct {
		n     int
		errno unix.Errno
	}
	threads, done := make(chan int, 1), make(chan result, 1)
	go func() { // ends when w is closed
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		waiter := Waiter{Linger: 10 * time.Second}
		threads <- unix.Gettid()
		n, errno := waiter.linger([]unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}})
		done <- result{n, errno}
	}()
	thread := <-threads
	for range 3 {
		time.Sleep(5 * time.Millisecond)
		if err := unix.Tgkill(unix.Getpid(), thread, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case got := <-done:
		t.Fatalf("a signal ended it: %+v", got)
	case <-time.After(20 * time.Millisecond):
	}
	_ = w.Close()
	if got := <-done; got != (result{n: 1}) {
		t.Errorf("%+v, want one descriptor ready", got)
	}
}
