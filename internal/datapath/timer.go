package datapath

import "time"

// Timer tells control that something is due.
type Timer interface {
	// C receives when the time of the last Reset has come, and perhaps once more for
	// one before it.
	C() <-chan time.Time
	// Reset moves the time to d from now; d may be as large as there is.
	Reset(d time.Duration)
	// Stop ends the timer for good.
	Stop()
}

// systemTimer is the Timer of package time. The runtime opens descriptors for it, so a
// child that must not have any is given another one.
type systemTimer struct{ *time.Timer }

func (t systemTimer) C() <-chan time.Time   { return t.Timer.C }
func (t systemTimer) Reset(d time.Duration) { t.Timer.Reset(d) }
func (t systemTimer) Stop()                 { t.Timer.Stop() }
