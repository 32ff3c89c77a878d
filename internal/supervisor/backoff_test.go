package supervisor_test

import (
	"slices"
	"testing"
	"time"

	"tund/internal/supervisor"
)

func TestBackoffDoublesFromATenthOfASecondToTen(t *testing.T) {
	var got []time.Duration
	for d := time.Duration(0); len(got) < 9; {
		d = supervisor.NextBackoff(d)
		got = append(got, d)
	}
	const ms = time.Millisecond
	want := []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10000 * ms, 10000 * ms}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestJitterAddsAtMostAFifth(t *testing.T) {
	for _, d := range []time.Duration{0, 100 * time.Millisecond, 10 * time.Second} {
		for range 1000 {
			if got := supervisor.Jitter(d); got < d || got > d+d/5 {
				t.Fatalf("jitter of %s is %s", d, got)
			}
		}
	}
}

func TestChildGetsOnlyTheEnvironmentThatItNeeds(t *testing.T) {
	parent := map[string]string{
		"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "LISTEN_PID": "1",
		"LISTEN_FDNAMES": "a", "PATH": "/bin", "HOME": "/", "LD_PRELOAD": "x", "GODEBUG": "y", "GOTRACEBACK": "all", "TZ": "UTC",
		"JOURNAL_STREAM": "8:1", "GORACE": "z",
	}
	got := supervisor.Environment(func(name string) (string, bool) {
		value, ok := parent[name]
		return value, ok
	})
	want := []string{
		"GOGC=off", "GOMEMLIMIT=16MiB", "GOMAXPROCS=3", "GODEBUG=containermaxprocs=0",
		"GORACE=z", "GOTRACEBACK=all",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
