package await

import (
	"testing"
	"time"
)

func TestOnlyWaitsInQuickSuccessionAreBusy(t *testing.T) {
	const within = 50 * time.Millisecond
	start := time.Now()
	for _, test := range []struct {
		name string
		gaps []time.Duration // before each wait
		want bool            // of the last one
	}{
		{"the first", []time.Duration{0}, false},
		{"a question and its answer", []time.Duration{0, time.Millisecond, time.Millisecond}, false},
		{"a keepalive after traffic", []time.Duration{0, 1, 1, 1, 1, 1, 5 * time.Second}, false},
		{"its answer", []time.Duration{0, 1, 1, 1, 1, 1, 5 * time.Second, time.Millisecond}, false},
		{"traffic", []time.Duration{0, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond}, true},
		{"a request every 10 ms", []time.Duration{0, within / 5, within / 5, within / 5, within / 5, within / 5}, true},
		{"a request every 20 ms", []time.Duration{0, within * 2 / 5, within * 2 / 5, within * 2 / 5, within * 2 / 5}, false},
	} {
		var r record
		now, got := start, false
		for _, gap := range test.gaps {
			now = now.Add(gap)
			got = r.busy(now, within)
		}
		if got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
