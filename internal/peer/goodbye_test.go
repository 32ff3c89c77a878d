package peer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
)

func TestOnlyTheOtherSidesWordAcknowledges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwo(t, nil)
		w.latency = func() time.Duration { return 10 * time.Millisecond }
		w.start(0, 1)
		defer w.finish()
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.gag()
		c := w.config(0, func(c *config.Peer) { c.Endpoints = []config.Endpoint{{Host: "192.0.2.2", Port: 7901}} })
		if err := w.peers[0].Update(t.Context(), c, live("endpoints")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the newer session has no HELLO yet
		r, err := w.peers[1].Shutdown(t.Context())
		if told := w.nodes[0].Held("other") != ""; r.Acknowledged != told || r.StaysDown != told || (err == nil) != told {
			t.Errorf("%+v, %v; the other side has heard of it: %t", r, err, told)
		}
	})
}
