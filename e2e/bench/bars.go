package main

import (
	"fmt"
	"slices"
)

// bar is what tund shall reach in a metric: a bound of the ratio to another system, or
// of the value itself where there is none.
type bar struct {
	system, metric, against string
	atLeast, atMost         float64 // one of them; atMost where least is zero
	worst                   bool    // every round counts, not the median
}

func bars() []bar {
	return []bar{
		{system: "tund", metric: "tcp1", against: reference, atLeast: 4},
		{system: "tund-go", metric: "tcp1", against: reference, atLeast: 3},
		{system: "tund", metric: "tcp4", against: reference, atLeast: 4},
		{system: "tund", metric: "reverse", against: reference, atLeast: 4},
		{system: "tund", metric: "both", against: reference, atLeast: 4},
		{system: "tund-go", metric: "tcp4", against: reference, atLeast: 3},
		{system: "tund-go", metric: "reverse", against: reference, atLeast: 3},
		{system: "tund-go", metric: "both", against: reference, atLeast: 3},
		{system: "tund", metric: "tcp1", against: "openvpn-48000", atLeast: 2},
		{system: "tund", metric: "cpu", against: reference, atMost: 0.25},
		{system: "tund", metric: "udp64", against: "nebula", atLeast: 2},
		{system: "tund", metric: "udp1200", against: "nebula", atLeast: 2},
		{system: "tund", metric: "ping-idle", against: reference, atMost: 0.5},
		{system: "tund", metric: "ping-p50", atMost: 0.6},
		{system: "tund", metric: "ping-p99", atMost: 4},
		{system: "tund", metric: "segmented-tcp1", against: reference, atLeast: 2.5},
		{system: "tund", metric: "loss-cubic", against: reference, atLeast: 1},
		{system: "tund", metric: "loss-bbr", against: reference, atLeast: 1},
		{system: "tund", metric: "segmented-loss-cubic", against: reference, atLeast: 1},
		{system: "tund", metric: "segmented-loss-bbr", against: reference, atLeast: 1},
		{system: "tund", metric: "burst", worst: true},
		{system: "tund", metric: "carrier-idle", atMost: 5},
		{system: "tund", metric: "carrier-loaded", atMost: 8},
	}
}

// measured returns what the bar is compared with, and false if nothing was measured.
func (b bar) measured(r *results) (float64, bool) {
	values := r.values[b.system][b.metric].values()
	if b.against != "" {
		values = r.values[b.system][b.metric].ratios(r.values[b.against][b.metric])
	}
	if len(values) == 0 {
		return 0, false
	}
	if b.worst {
		return slices.Max(values), true
	}
	return median(values), true
}

// value is measured as text.
func (b bar) value(r *results) string {
	if value, ok := b.measured(r); ok {
		return number(value, 2)
	}
	return "–"
}

// of returns the same bar for another system.
func (b bar) of(name string) bar {
	b.system = name
	return b
}

// met reports whether a value satisfies the bar.
func (b bar) met(value float64) bool {
	if b.atLeast > 0 {
		return value >= b.atLeast
	}
	return value <= b.atMost
}

// text says what is asked for.
func (b bar) text(unit string) string {
	relation, bound := "at most", b.atMost
	if b.atLeast > 0 {
		relation, bound = "at least", b.atLeast
	}
	if b.against != "" {
		return fmt.Sprintf("%s %v × %s", relation, bound, b.against)
	}
	return fmt.Sprintf("%s %v %s", relation, bound, unit)
}
