package lab

import "time"

// beat is how long a Pace sleeps at a time.
const beat = 5 * time.Millisecond

// Pace watches how promptly this machine wakes who has slept. Where that takes long,
// other work holds the processors, and no program's own time can be told.
type Pace struct {
	stop chan struct{}
	late chan time.Duration
}

// StartPace begins to watch.
func StartPace() *Pace {
	p := &Pace{stop: make(chan struct{}), late: make(chan time.Duration, 1)} // one result
	go p.run()                                                               // ends with Stop
	return p
}

func (p *Pace) run() {
	timer := time.NewTimer(beat)
	defer timer.Stop()
	var worst time.Duration
	for {
		due := time.Now().Add(beat)
		timer.Reset(beat)
		select {
		case <-timer.C:
			worst = max(worst, time.Since(due))
		case <-p.stop:
			p.late <- worst
			return
		}
	}
}

// Stop ends the watch and returns the longest time by which a sleeper was woken late.
func (p *Pace) Stop() time.Duration {
	close(p.stop)
	return <-p.late
}
