package parts

import (
	"errors"
	"testing"
	"time"
)

func TestAListNamesEachPartWithItsReason(t *testing.T) {
	var l List
	l.Add("address 10.0.0.1/24", nil)
	if len(l) != 0 || l.String() != "" || l.Strings() == nil {
		t.Errorf("nothing is missing, but %q", l)
	}
	l.Add("bridge br0", errors.New("no such device"))
	l.Add("route 10.20.0.0/16", errors.New("exists via 192.0.2.9 dev eth0"))
	if got, want := l.String(), "bridge br0: no such device; route 10.20.0.0/16: exists via 192.0.2.9 dev eth0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if l.Same(l[:1]) || l.Same(List{l[0], {"route 10.20.0.0/16", errors.New("down")}}) || !l.Same(append(List{}, l...)) {
		t.Error("lists are not compared by what is missing and why")
	}
}

func TestWhatIsTakenOnceIsPutBackAtOnce(t *testing.T) {
	var p Pace
	now := time.Unix(1000, 0)
	for range 10 { // somebody takes something every five minutes
		if got := p.Next(now); got != now.Add(Settle) || p.Fights(now) {
			t.Errorf("put back only at %v", got.Sub(now))
		}
		p.Tried(now.Add(Settle), true)
		now = now.Add(5 * time.Minute)
	}
}

func TestAFightSlowsDownAndEnds(t *testing.T) {
	var p Pace
	now := time.Unix(1000, 0)
	pauses := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute}
	p.Tried(now, true)
	for i, want := range pauses { // taken again at once
		next := p.Next(now.Add(time.Millisecond))
		if next.Sub(now) != want || p.Fights(now.Add(time.Millisecond)) != (i > 0) {
			t.Errorf("after %d tries the next one comes after %v, want %v", i+1, next.Sub(now), want)
		}
		now = next
		p.Tried(now, true)
	}
	now = now.Add(3 * time.Minute) // it was left alone
	p.Tried(now, true)
	if got := p.Next(now); got != now.Add(Patience) {
		t.Errorf("long after the fight the pause is %v", got.Sub(now))
	}
}

func TestSignsMakeNoMoreThanOneTryASecond(t *testing.T) {
	var p Pace
	begin := time.Unix(1000, 0)
	tries, due := 0, p.Next(begin)
	for now := begin; now.Before(begin.Add(10 * time.Second)); now = now.Add(time.Millisecond) { // a sign each
		if !now.Before(due) {
			p.Tried(now, false)
			tries++
			due = p.Next(now)
		}
	}
	if tries != 10 {
		t.Errorf("%d tries in 10 s", tries)
	}
}
