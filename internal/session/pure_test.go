package session

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tund/internal/keys"
)

func TestArbitrate(t *testing.T) {
	smaller, larger := twoIdentities()
	small, large := smaller.Public(), larger.Public()
	base := time.Unix(1000, 0)
	rival := func(instance byte, dialled bool, at time.Duration) Rival {
		return Rival{Instance: [16]byte{instance}, Dialled: dialled, Established: base.Add(at)}
	}
	// seen is a session of an instance that had one before, at this place among all.
	seen := func(instance byte, place int) Rival {
		r := rival(instance, false, time.Duration(place)*time.Hour)
		r.First, r.Back = place, true
		return r
	}
	for name, c := range map[string]struct {
		small        bool
		older, newer Rival
		want         Verdict
	}{
		"peer started anew, we decide":            {true, rival(1, true, 0), rival(2, false, time.Hour), KeepNewer},
		"peer started anew, larger key":           {false, rival(1, true, 0), rival(2, false, time.Second), KeepNewer},
		"the second machine is back":              {true, seen(1, 0), seen(2, 1), PingOlder},
		"the second is back, larger key":          {false, seen(1, 0), seen(2, 1), PingOlder},
		"the first machine is back":               {false, seen(2, 1), seen(1, 0), KeepNewer},
		"we dialled both":                         {true, rival(1, true, 0), rival(1, true, time.Hour), KeepNewer},
		"the peer dialled both":                   {false, rival(1, false, 0), rival(1, false, time.Second), KeepNewer},
		"crossed dials, ours is newer":            {true, rival(1, false, 0), rival(1, true, time.Second), KeepNewer},
		"crossed dials, ours is older":            {true, rival(1, true, 0), rival(1, false, 2*time.Second), KeepOlder},
		"crossed dials, larger key":               {false, rival(1, true, 0), rival(1, false, time.Second), Wait},
		"long after, we decide":                   {true, rival(1, true, 0), rival(1, false, 3*time.Second), PingOlder},
		"long after, ours is newer":               {true, rival(1, false, 0), rival(1, true, time.Hour), PingOlder},
		"long after, larger key":                  {false, rival(1, false, 0), rival(1, true, time.Hour), Wait},
		"given in the wrong order, still crossed": {true, rival(1, true, time.Second), rival(1, false, 0), KeepOlder},
	} {
		self, peer := small, large
		if !c.small {
			self, peer = peer, self
		}
		if got := Arbitrate(self, peer, c.older, c.newer); got != c.want {
			t.Errorf("%s: %d, not %d", name, got, c.want)
		}
	}
}

func TestBothNodesArbitrateCrossedDialsAlike(t *testing.T) {
	smaller, larger := twoIdentities()
	base := time.Unix(1000, 0)
	// The smaller key's node sees its own dial first, the other one too late or too early.
	for _, gap := range []time.Duration{-2 * time.Second, 0, 2 * time.Second} {
		mine := Rival{Instance: [16]byte{2}, Dialled: true, Established: base}
		theirs := Rival{Instance: [16]byte{2}, Established: base.Add(gap)}
		want := KeepOlder
		older, newer := mine, theirs
		if gap < 0 {
			older, newer, want = theirs, mine, KeepNewer
		}
		if got := Arbitrate(smaller.Public(), larger.Public(), older, newer); got != want {
			t.Errorf("gap %s: %d", gap, got)
		}
		older.Dialled, newer.Dialled = !older.Dialled, !newer.Dialled
		if got := Arbitrate(larger.Public(), smaller.Public(), older, newer); got != Wait {
			t.Errorf("gap %s: the larger key decides %d", gap, got)
		}
	}
}

func TestBackoffGrowsToThirtySecondsWithFullJitter(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: 250 * time.Millisecond, 1: 250 * time.Millisecond, 2: 500 * time.Millisecond, 3: time.Second,
		7: 16 * time.Second, 8: 30 * time.Second, 9: 30 * time.Second, 1 << 30: 30 * time.Second,
	} {
		if got := Backoff(failures, 0.5); got != want/2 {
			t.Errorf("after %d failures %s, not %s", failures, got, want/2)
		}
		if got := Backoff(failures, 0); got != 0 {
			t.Errorf("full jitter begins at %s", got)
		}
	}
}

func TestReasonsHaveNames(t *testing.T) {
	for r := AbortTimeout; r <= AbortResources; r++ {
		if abortNames[r] == "" {
			t.Errorf("abort reason %d", uint8(r))
		}
	}
	for c := CloseShutdown; c <= CloseSameKey; c++ {
		if closeNames[c] == "" {
			t.Errorf("close code %d", uint8(c))
		}
	}
	if AbortReason(99).String() != "reason 99" || CloseCode(99).String() != "code 99" {
		t.Error("unknown ones")
	}
}

func TestNothingOfAnExchangeIsPrinted(t *testing.T) {
	secret := keys.DataKey{Key: keys.Secret{0xab, 0xcd, 0xef, 0x12, 0xab, 0xcd, 0xef, 0x12}}
	a := agreement{next: secret.Key, previous: secret.Key, psk: &secret.Key}
	x := exchange{kind: KindRekey, agreement: a}
	e := exchanges{chain: secret.Key, inFlight: &x}
	sh := shares{x25519: secret.Key[:], mlkem: secret.Key[:]}
	for _, value := range []any{a, &a, x, &x, e, &e, sh, &sh, []exchange{x}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%s", "%q", "%d"} {
			checkHidden(t, strings.ToLower(fmt.Sprintf(verb, value)), secret)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.first()
		install := last[InstallKey](t, w.a)
		ca, _ := Pipe(w.a.identity.Public(), w.b.identity.Public())
		for _, value := range []any{w.a.s, ca, install, Event{Session: w.a.s, Body: install}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
				checkHidden(t, fmt.Sprintf(verb, value), install.Send)
			}
			var text strings.Builder
			slog.New(slog.NewTextHandler(&text, nil)).Info("value", "value", value)
			checkHidden(t, text.String(), install.Send)
		}
	})
}

// checkHidden looks for the marks of a secret in any form: the exporter of a Pipe, and key.
func checkHidden(t *testing.T, text string, key keys.DataKey) {
	t.Helper()
	bytes := strings.Trim(fmt.Sprintf("%d", key.Key[:8]), "[]")
	for _, mark := range []string{fmt.Sprintf("%x", key.Key[:8]), bytes, "[1 0 0 0", "0100000000", "0x1, 0x0, 0x0"} {
		if strings.Contains(text, mark) {
			t.Errorf("%q shows a secret", text)
		}
	}
}
