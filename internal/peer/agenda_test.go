package peer

import (
	"testing"
	"time"
)

func TestTheAgendaGivesWhatIsDueAndOnlyOnce(t *testing.T) {
	var a agenda
	if got := a.next(0, time.Minute); got != time.Minute {
		t.Errorf("empty: next in %v", got)
	}
	a.set(taskDial, 3*time.Second)
	a.set(taskRetire, time.Second)
	a.set(taskWipe, 2*time.Second)
	a.clear(taskWipe)
	if got := a.next(0, time.Minute); got != time.Second {
		t.Errorf("next in %v", got)
	}
	if _, ok := a.take(time.Second - 1); ok {
		t.Error("too early")
	}
	if got, ok := a.take(time.Second); !ok || got != taskRetire || a.has(taskRetire) {
		t.Errorf("%d %t", got, ok)
	}
	if _, ok := a.take(time.Second); ok {
		t.Error("given twice")
	}
	if got := a.next(time.Hour, time.Minute); got != 0 {
		t.Errorf("overdue, and next in %v", got)
	}
	a.set(taskDial, 2*time.Hour) // again, later
	if _, ok := a.take(time.Hour); ok {
		t.Error("the old time of a task that was set anew")
	}
	if !a.has(taskDial) || a.has(taskWipe) {
		t.Error("has")
	}
}

func TestTheAgendaLooksAtTheClockAfterASuspend(t *testing.T) {
	var a agenda
	a.set(taskExchange, 10*time.Hour)
	if got := a.next(0, suspendLook); got != suspendLook {
		t.Errorf("Go's timer would sleep %v", got)
	}
}
