package datapath

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/pipe"
)

// lossesOf plays a queue of so many bytes of long runs, looked at every 100 microseconds.
func lossesOf(s *standing, backlog func(now time.Duration) int, from, to time.Duration) int {
	losses := 0
	for now := from; now < to; now += 100 * time.Microsecond {
		if s.drop(backlog(now), true, now) {
			losses++
		}
	}
	return losses
}

func TestAQueueThatEmptiesAtTimesLosesNothing(t *testing.T) {
	var s standing
	sawtooth := func(now time.Duration) int {
		return int(now%(4*time.Millisecond)/time.Microsecond) * 1000
	}
	if n := lossesOf(&s, sawtooth, 0, 10*time.Second); n != 0 {
		t.Errorf("%d losses", n)
	}
	if n := lossesOf(&s, func(time.Duration) int { return standingBytes }, 0, 10*time.Second); n != 0 {
		t.Errorf("%d losses at the bound", n)
	}
}

func TestAStandingQueueLosesMoreAndMoreUpToALimit(t *testing.T) {
	var s standing
	long := func(time.Duration) int { return standingBytes + 1 }
	first := lossesOf(&s, long, 0, 20*time.Millisecond)
	if first < 3 || first > 8 {
		t.Errorf("%d losses in the first 20 ms", first)
	}
	lossesOf(&s, long, 20*time.Millisecond, time.Second)
	if n := lossesOf(&s, long, time.Second, 2*time.Second); n < 900 || n > 1000 {
		t.Errorf("%d losses in a later second", n)
	}
	// After a pause all begins anew.
	lossesOf(&s, func(time.Duration) int { return 0 }, 2*time.Second, 3*time.Second)
	if n := lossesOf(&s, long, 3*time.Second, 3*time.Second+20*time.Millisecond); n != first {
		t.Errorf("%d losses after a pause, %d at first", n, first)
	}
}

func TestDatagramsThatComeOneByOneMayWaitInGreaterNumber(t *testing.T) {
	for _, tt := range []struct {
		backlog int
		long    bool
		lost    bool
	}{
		{standingBytes, true, false},
		{standingBytes + 1, true, true},
		{standingBytes + 1, false, false},
		{standingAlone, false, false},
		{standingAlone + 1, false, true},
	} {
		var s standing
		if s.drop(tt.backlog, tt.long, time.Second) {
			t.Error("lost at once")
		}
		if got := s.drop(tt.backlog, tt.long, time.Second+standingTime); got != tt.lost {
			t.Errorf("%+v: lost %t", tt, got)
		}
	}
}

func TestOnlyBulkIsEverLostEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := superPair(t, allOffloads, true)
		p.b.socket.mu.Lock()
		p.b.socket.backlog = 4 << 20
		p.b.socket.mu.Unlock()
		small := func() {
			for range 100 {
				p.a.device.putItem(flowOf(4, 17, 80, 0, noise(64), 64))
				time.Sleep(time.Millisecond)
			}
			synctest.Wait()
		}
		small()
		if s := p.b.stats(); s.RxPackets != 100 || s.Drops != (pipe.Drops{}) {
			t.Errorf("small packets: %d, %+v", s.RxPackets, s.Drops)
		}
		// What waited over a restart of the other side comes in long runs, too: echo requests.
		for range 100 {
			p.a.device.putItem(flowOf(4, 17, 80, 0, noise(40*64), 64))
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if s := p.b.stats(); s.RxPackets != 4100 || s.Drops != (pipe.Drops{}) {
			t.Errorf("runs of small packets: %d, %+v", s.RxPackets, s.Drops)
		}
		for size, count := range map[int]int{40000: 40, 1000: 1} { // in long runs, and one by one
			before := p.b.stats()
			for i := range 4000 / count {
				p.a.device.putItem(flowOf(4, 6, 80, uint32(i*size), noise(size), 1000))
				time.Sleep(time.Millisecond)
			}
			s := p.b.stats()
			lost := s.Drops.Queue - before.Drops.Queue
			if lost == 0 || lost > 4000/4 || s.RxPackets+lost != before.RxPackets+4000 || s.Missing != 0 {
				t.Errorf("bulk, %d together: %d came, %+v, %d missing", count, s.RxPackets, s.Drops, s.Missing)
			}
		}
	})
}
