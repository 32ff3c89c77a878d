package peer

import (
	"log/slog"
	"testing"

	"tund/internal/ctl"
)

// wantState says in words of its own what a state must be.
func wantState(f facts) ctl.State {
	if !f.enabled {
		return ctl.StateDisabled
	}
	if f.held || !f.open {
		return ctl.StateDown
	}
	if !f.session && !f.keyed {
		return f.step
	}
	if f.session && f.data {
		if f.lacking {
			return ctl.StateDegraded
		}
		if f.exchange {
			return ctl.StateRekeying
		}
		return ctl.StateUp
	}
	if f.session && (f.fresh || !f.keyed) {
		return ctl.StateAuthenticating
	}
	return ctl.StateDegraded
}

func TestTheStateFollowsFromAllFacts(t *testing.T) {
	seen := make(map[ctl.State]int)
	for bits := range 1 << 9 {
		has := func(n int) bool { return bits>>n&1 == 1 }
		for _, step := range []ctl.State{ctl.StateResolving, ctl.StateConnecting, ctl.StateAuthenticating} {
			f := facts{
				enabled: has(0), held: has(1), open: has(2), session: has(3),
				exchange: has(4), keyed: has(5), fresh: has(6), data: has(7), lacking: has(8), step: step,
			}
			if (f.fresh || f.data) && !f.keyed || f.fresh && f.data {
				continue // facts() does not give these
			}
			got := stateOf(f)
			seen[got]++
			if got != wantState(f) {
				t.Errorf("%+v is %s, not %s", f, got, wantState(f))
			}
		}
	}
	if len(seen) != 8 {
		t.Errorf("only %v are ever seen", seen)
	}
}

func TestRekeysAndTriesAreQuietAndDegradedAndDownAreWarnings(t *testing.T) {
	kind := map[ctl.State]string{
		ctl.StateDisabled: "disabled", ctl.StateDown: "down", ctl.StateDegraded: "degraded",
		ctl.StateUp: "works", ctl.StateRekeying: "works",
		ctl.StateResolving: "tries", ctl.StateConnecting: "tries", ctl.StateAuthenticating: "tries",
	}
	for from := range kind {
		for to := range kind {
			if from == to {
				continue // transition does not ask
			}
			want := slog.LevelInfo
			switch {
			case kind[to] == "degraded" || kind[to] == "down":
				want = slog.LevelWarn
			case kind[from] == kind[to]:
				want = slog.LevelDebug
			}
			if got := levelOf(from, to); got != want {
				t.Errorf("%s to %s is logged at %s", from, to, got)
			}
		}
	}
}
