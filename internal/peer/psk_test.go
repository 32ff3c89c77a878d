package peer_test

import (
	"strings"
	"testing"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
)

// What keeps two peers that are up from new keys is shown by both of them, all the while,
// and counted, until it is over.
func TestPresharedKeysThatComeToDifferAreShownAtBothEnds(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		psk := keys.Secret{7}
		give := func(side int) {
			c := w.config(side, func(c *config.Peer) { c.PresharedKey = &psk })
			if err := w.peers[side].Update(t.Context(), c, live("preshared_key_file")); err != nil {
				t.Fatal(err)
			}
		}
		give(0)
		for range 60 {
			time.Sleep(time.Second)
			for side := range 2 {
				if s := w.status(side); !strings.Contains(s.LastError, "pre-shared key") || s.State != ctl.StateUp || s.ExchangesFailed == 0 {
					t.Fatalf("side %d is %s, %d exchanges failed: %q", side, s.State, s.ExchangesFailed, s.LastError)
				}
			}
		}
		give(1)
		time.Sleep(time.Minute)
		for side := range 2 {
			if s := w.status(side); s.LastError != "" || s.Epoch < 2 {
				t.Errorf("side %d is %s in epoch %d: %q", side, s.State, s.Epoch, s.LastError)
			}
		}
	})
}

func TestAChangedPresharedKeyBringsANewEpochAtOnce(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		psk := keys.Secret{7}
		for side := range 2 {
			c := w.config(side, func(c *config.Peer) { c.PresharedKey = &psk })
			if err := w.peers[side].Update(t.Context(), c, live("preshared_key_file")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			w.mustWork()
		}
		w.await(5*time.Second, ctl.StateUp, 0, 1)
		if e := w.status(0).Epoch; e < 2 {
			t.Errorf("still epoch %d", e)
		}
		w.mustWork()
	})
}
