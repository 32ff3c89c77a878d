package sandbox_test

import (
	"errors"
	"io"
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
func pollUntilHungUp(idle, stop int) error {
	for {
		fds := []unix.PollFd{{Fd: int32(idle), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[1].Revents != 0 {
			return nil
		}
	}
}

// newHangup makes a Hangup in the place of a descriptor of its own.
func newHangup(t *testing.T) *sandbox.Hangup {
	t.Helper()
	r, w := rawPipe(t)
	h, err := sandbox.NewHangup(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(r), unix.Close(w) })
	return h
}

func TestHangupEndsEveryReadAndPoll(t *testing.T) {
	for range 100 {
		h := newHangup(t)
		fromParent, toChild := rawPipe(t)
		idle, other := rawPipe(t)
		var loops sync.WaitGroup
		for range 2 {
			loops.Go(func() {
				if err := pollUntilHungUp(idle, h.FD()); err != nil {
					t.Error(err)
				}
			})
		}
		loops.Go(func() {
			if n, err := h.Reader(fromParent).Read(make([]byte, 8)); n != 0 || !errors.Is(err, io.EOF) {
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
		case <-time.After(time.Minute):
			t.Fatal("something is blocked still")
		}
		for _, fd := range []int{fromParent, toChild, idle, other} {
			if err := unix.Close(fd); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestReaderOfAHangupReadsToTheEndOfItsPipe(t *testing.T) {
	fromParent, toChild := rawPipe(t)
	const text = "a message and another one"
	if _, err := unix.Write(toChild, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(toChild); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(newHangup(t).Reader(fromParent))
	if err != nil || string(got) != text {
		t.Errorf("read %q, %v", got, err)
	}
	if err := unix.Close(fromParent); err != nil {
		t.Fatal(err)
	}
}

func TestReaderOfAHangupSaysWhyItCannotRead(t *testing.T) {
	directory, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newHangup(t).Reader(directory).Read(make([]byte, 8)); !errors.Is(err, unix.EISDIR) {
		t.Errorf("reading a directory: %v", err)
	}
	if err := unix.Close(directory); err != nil {
		t.Fatal(err)
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
	case <-time.After(time.Minute):
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
		case <-time.After(time.Minute):
			t.Fatalf("no tick after Reset(%s)", d)
		}
	}
}

func TestAlarmThatIsPutOffDoesNotTick(t *testing.T) {
	for first := time.Now(); time.Since(first) < time.Minute; {
		a := runAlarm(t)
		if !putOff(a, 100*time.Millisecond) {
			continue // it may tick: on a busy machine it was not put off in time
		}
		select {
		case <-a.C():
			t.Error("ticked")
		case <-time.After(200 * time.Millisecond):
		}
		return
	}
	t.Error("too slow each time")
}

// putOff sets an Alarm again and again, and says whether it did so each time before it was due.
func putOff(a *sandbox.Alarm, due time.Duration) (inTime bool) {
	inTime = true
	for range 20 {
		set := time.Now()
		a.Reset(due)
		time.Sleep(time.Millisecond)
		a.Reset(time.Hour)
		inTime = inTime && time.Since(set) < due
	}
	return inTime
}

func TestAlarmResetDoesNotAllocate(t *testing.T) {
	a := runAlarm(t)
	if n := testing.AllocsPerRun(100, func() { a.Reset(time.Hour) }); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}
