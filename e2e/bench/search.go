package main

import (
	"fmt"
	"math"
)

const (
	// lossBar is the share of datagrams that may be lost at a rate that counts.
	lossBar = 0.005
	// trials bounds a search; close ends it when the bounds are that near.
	trials = 8
	near   = 1.04
	// Steps from a rate that is not bounded on one side yet; upwards, each is the square
	// of the one before.
	stepUp, stepDown = 1.2, 1.6
	// fully is the share of the offered rate below which the generator is at its end.
	fully = 0.93
)

// trial is what became of datagrams at one rate: per second, and the share lost.
type trial struct {
	sent, received, lost float64
}

// search returns the highest rate, in packets a second as received, at which no more
// than lossBar is lost. It begins near the hint; without one, by offering all that can
// be sent. A rate that was lost by chance is not tried again: the medians of the rounds
// even that out.
func search(hint float64, try func(rate float64) (trial, error)) (float64, error) {
	best, low, high := 0.0, 0.0, math.Inf(1)
	rate, up := hint*0.97, stepUp
	for range trials {
		t, err := try(rate)
		if err != nil {
			return 0, err
		}
		if t.lost <= lossBar {
			best, low = max(best, t.received), max(low, t.sent)
			if rate == 0 || t.sent < rate*fully {
				return best, nil // more cannot be sent
			}
		} else {
			high = min(high, t.sent)
		}
		if low > 0 && high/low < near {
			return best, nil
		}
		rate = next(rate, low, high, up, t)
		if math.IsInf(high, 1) {
			up *= up
		}
	}
	if best == 0 {
		return 0, fmt.Errorf("no rate down to %.0f packets/s loses less than %.1f %%", rate, lossBar*100)
	}
	return best, nil
}

// next returns the rate to try after t, which was offered as rate.
func next(rate, low, high, up float64, t trial) float64 {
	switch {
	case rate == 0: // the first, unbounded: what arrived is near, but not free of loss
		return t.received
	case math.IsInf(high, 1):
		return low * up
	case low == 0:
		return min(rate, high) / stepDown
	default:
		return math.Sqrt(low * high)
	}
}
