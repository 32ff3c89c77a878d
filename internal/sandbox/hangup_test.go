package sandbox_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/sandbox"
)

// rawPipe makes a blocking pipe that package os does not know of.
func rawPipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return p[0], p[1]
}

// pollUntilHungUp waits as a packet loop does: for idle, and for stop.
func pollUntilHungUp(idle, stop int, events int16) error {
	for {
		fds := []unix.PollFd{{Fd: int32(idle), Events: unix.POLLIN}, {Fd: int32(stop), Events: events}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[1].Revents != 0 {
			return nil
		}
	}
}

func TestHangupEndsEveryReadAndPoll(t *testing.T) {
	for range 100 {
		fromParent, toChild := rawPipe(t)
		fromChild, toParent := rawPipe(t)
		idle, other := rawPipe(t)
		h := sandbox.NewHangup(toParent, fromParent)
		var loops sync.WaitGroup
		for _, events := range []int16{0, unix.POLLIN} { // both ways that a port may ask
			loops.Go(func() {
				if err := pollUntilHungUp(idle, h.FD(), events); err != nil {
					t.Error(err)
				}
			})
		}
		loops.Go(func() {
			if n, err := unix.Read(fromParent, make([]byte, 8)); n != 0 || err != nil {
				t.Errorf("read %d bytes, %v", n, err)
			}
		})
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { loops.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("something is blocked still")
		}
		for _, fd := range []int{fromParent, toChild, fromChild, toParent, idle, other} {
			if err := unix.Close(fd); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestHangupIsSeenWhenTheParentIsGone(t *testing.T) {
	fromChild, toParent := rawPipe(t)
	idle, _ := rawPipe(t)
	h := sandbox.NewHangup(toParent)
	if err := unix.Close(fromChild); err != nil {
		t.Fatal(err)
	}
	for _, events := range []int16{0, unix.POLLIN} {
		if err := pollUntilHungUp(idle, h.FD(), events); err != nil {
			t.Error(err)
		}
	}
}

// runAlarm runs an Alarm for one test.
func runAlarm(t *testing.T) *sandbox.Alarm {
	t.Helper()
	a := sandbox.NewAlarm()
	var wg sync.WaitGroup
	wg.Go(a.Run)
	t.Cleanup(func() { a.Stop(); wg.Wait() })
	return a
}

func TestAlarmTicksOnceAtTheTimeSetLast(t *testing.T) {
	a := runAlarm(t)
	began := time.Now()
	a.Reset(time.Hour)
	a.Reset(30 * time.Millisecond)
	select {
	case <-a.C():
	case <-time.After(10 * time.Second):
		t.Fatal("no tick")
	}
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("ticked after %s", took)
	}
	select {
	case <-a.C():
		t.Error("ticked twice")
	case <-time.After(50 * time.Millisecond):
	}
}

func TestAlarmInThePastTicksAtOnce(t *testing.T) {
	a := runAlarm(t)
	for _, d := range []time.Duration{0, -time.Hour} {
		a.Reset(d)
		select {
		case <-a.C():
		case <-time.After(10 * time.Second):
			t.Fatalf("no tick after Reset(%s)", d)
		}
	}
}

func TestAlarmThatIsPutOffDoesNotTick(t *testing.T) {
	a := runAlarm(t)
	for range 20 {
		a.Reset(100 * time.Millisecond)
		time.Sleep(time.Millisecond)
	}
	a.Reset(time.Hour)
	select {
	case <-a.C():
		t.Error("ticked")
	case <-time.After(200 * time.Millisecond):
	}
}

func TestAlarmResetDoesNotAllocate(t *testing.T) {
	a := runAlarm(t)
	if n := testing.AllocsPerRun(100, func() { a.Reset(time.Hour) }); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}
