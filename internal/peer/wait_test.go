package peer

import (
	"errors"
	"testing"

	"tund/internal/ctl"
	"tund/internal/pipe"
)

func got[T any](c <-chan T) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAnExchangeAnswersWhomItServes(t *testing.T) {
	bad := errors.New("refused")
	for name, c := range map[string]struct {
		wantsEpoch bool
		end        exchangeEnd
		served     bool
	}{
		"epoch for epoch":                    {true, exchangeEnd{epoch: true, id: at(6, 0)}, true},
		"epoch for generation":               {false, exchangeEnd{epoch: true, id: at(6, 0)}, true},
		"generation for generation":          {false, exchangeEnd{id: at(5, 4)}, true},
		"generation for epoch":               {true, exchangeEnd{id: at(5, 4)}, false},
		"one that was over before":           {true, exchangeEnd{epoch: true, id: at(5, 3)}, false},
		"a generation that was there before": {false, exchangeEnd{id: at(5, 3)}, false},
		"failed epoch for epoch":             {true, exchangeEnd{epoch: true, err: bad}, true},
		"failed epoch for generation":        {false, exchangeEnd{epoch: true, err: bad}, true},
		"failed generation for epoch":        {true, exchangeEnd{err: bad}, false},
		"failed generation for generation":   {false, exchangeEnd{err: bad}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var w waiters
			answer := w.addExchange(c.wantsEpoch, at(5, 3))
			w.exchange(c.end)
			if got(answer) != c.served {
				t.Errorf("served: %t", !c.served)
			}
			epoch, iv := w.unserved()
			if epoch != (c.wantsEpoch && !c.served) || iv != (!c.wantsEpoch && !c.served) {
				t.Errorf("still wanted: epoch %t, generation %t", epoch, iv)
			}
		})
	}
}

func TestTheLossOfTheSessionAnswersEverybody(t *testing.T) {
	for _, cause := range []error{nil, errors.New("lost")} {
		var w waiters
		a, b := w.addExchange(true, at(1, 0)), w.addExchange(false, at(1, 0))
		w.exchangesLost(cause)
		for _, c := range []<-chan exchangeEnd{a, b} {
			if end := <-c; end.err == nil {
				t.Errorf("cause %v: no error", cause)
			}
		}
	}
}

func TestTheEndOfTheChildAnswersWhatOnlyItKnew(t *testing.T) {
	var w waiters
	slot, probe := w.slots.add(at(1, 0)), w.probes.add(1)
	stats, settings := w.counters.add(2), w.settings.add(3)
	exchange, state := w.addExchange(true, at(1, 0)), w.addState()
	w.childGone()
	if err := <-slot; err == nil {
		t.Error("a slot that is gone counts as confirmed")
	}
	if r := <-probe; r.OK {
		t.Error("a probe has come back from nowhere")
	}
	if s := <-stats; s.LastReceived >= 0 {
		t.Error("something was received just now")
	}
	if !got(settings) || got(exchange) || got(state) {
		t.Error("who else was answered is wrong")
	}
}

func TestAnAnswerReachesAllWhoAskedAndNobodyElse(t *testing.T) {
	var w waiters
	a, b, other := w.probes.add(1), w.probes.add(1), w.probes.add(2)
	w.probe(pipe.ProbeResult{ID: 1, OK: true})
	w.probe(pipe.ProbeResult{ID: 1, OK: true}) // again: nobody waits, nothing blocks
	w.probe(pipe.ProbeResult{ID: 7})
	if !got(a) || !got(b) || got(other) || len(w.probes) != 1 {
		t.Error("not just those two")
	}
	left := w.addState()
	w.state(ctl.StateUp)
	w.state(ctl.StateDown)
	if s := <-left; s != ctl.StateUp || len(w.states) != 0 {
		t.Errorf("%s, %d wait", s, len(w.states))
	}
}
