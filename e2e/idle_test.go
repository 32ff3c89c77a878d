package e2e

import (
	"testing"
	"time"

	"tund/e2e/lab"
)

// A child with nothing to carry sleeps: no thread of it is woken but for a keepalive, and
// once in ten seconds, when its supervisor asks whether it is alive.
func TestAnIdleChildWakesOnlyForItsKeepalive(t *testing.T) {
	t.Parallel()
	const window = 12 // seconds
	for _, c := range []struct {
		keepalive     string
		atLeast, most int // seconds in which a child was woken
	}{
		{"10m", 1, 4},
		{"1s", 5, window}, // what is counted is seen
	} {
		t.Run("keepalive "+c.keepalive, func(t *testing.T) {
			t.Parallel()
			p := upPair(t, lab.PairOptions{Extra: []string{`keepalive = "` + c.keepalive + `"`}})
			wantPing(t, p.Alpha, lab.BetaInner4)
			children := []int{p.Alpha.MustPeer("beta").ChildPID, p.Beta.MustPeer("alpha").ChildPID}
			time.Sleep(time.Second) // until the last status is answered
			woken, before := [2]int{}, [2]int{switches(t, children[0]), switches(t, children[1])}
			first := before
			for range window {
				time.Sleep(time.Second)
				for i, pid := range children {
					if now := switches(t, pid); now != before[i] {
						woken[i]++
						before[i] = now
					}
				}
			}
			t.Logf("woken in %v of %d seconds; %d and %d times", woken, window, before[0]-first[0], before[1]-first[1])
			for _, seconds := range woken {
				if seconds < c.atLeast || seconds > c.most {
					t.Errorf("a child was woken in %d of %d seconds, want %d to %d", seconds, window, c.atLeast, c.most)
				}
			}
		})
	}
}

func switches(t *testing.T, pid int) int {
	t.Helper()
	count, err := lab.Switches(pid)
	if err != nil {
		t.Fatal(err)
	}
	return count
}
