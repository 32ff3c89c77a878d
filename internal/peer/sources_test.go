package peer_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
)

// dropSources lets a side's child count packets whose source it has dropped.
func (w *two) dropSources(side int, n uint64) {
	w.wires.mu.Lock()
	defer w.wires.mu.Unlock()
	end := w.wires.ends[side]
	end.counters.Drops.Source = n
	end.say(end.stats(0))
}

func TestDroppedSourcesAreAWarningWhereNobodyHasChosenThem(t *testing.T) {
	inTwo(t, func(_ int, c *config.Peer) {
		c.Addresses = []netip.Prefix{netip.MustParsePrefix("10.77.0.1/30")}
	}, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		if got := w.wires.end(0).inForce.AllowedIPs; fmt.Sprint(got) != "[10.77.0.0/30 ::/128 fe80::/10]" {
			t.Errorf("the child accepts %v", got)
		}
		if s := w.status(0); len(s.Warnings) != 0 {
			t.Errorf("warnings before anything is dropped: %q", s.Warnings)
		}
		for n := range uint64(3) {
			w.dropSources(0, n+1)
		}
		s := w.status(0)
		if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "10.77.0.0/30") || !strings.Contains(s.Warnings[0], "allowed_ips") {
			t.Errorf("warnings: %q", s.Warnings)
		}
		if n := w.logs[0].count("inner packets dropped by their source"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		// A route makes room for them, without a new child.
		c := w.config(0, func(c *config.Peer) { c.Routes = []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")} })
		if err := w.peers[0].Update(t.Context(), c, live("routes")); err != nil {
			t.Fatal(err)
		}
		if got := w.wires.end(0).inForce.AllowedIPs; fmt.Sprint(got) != "[10.77.0.0/30 10.20.0.0/16 ::/128 fe80::/10]" {
			t.Errorf("the child accepts %v", got)
		}
		if s := w.status(0); len(s.Warnings) != 0 {
			t.Errorf("warnings after the change: %q", s.Warnings)
		}
	})
}

func TestDroppedSourcesAreNoWarningWhereTheyAreChosen(t *testing.T) {
	for name, allowed := range map[string]config.Allowed{
		"a list": {Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"any":    {Any: true},
	} {
		t.Run(name, func(t *testing.T) {
			inTwo(t, func(_ int, c *config.Peer) { c.AllowedIPs = allowed }, func(t *testing.T, w *two) {
				w.await(time.Second, ctl.StateUp, 0, 1)
				w.dropSources(0, 7)
				synctest.Wait()
				if got := w.wires.end(0).inForce.AllowedIPs; fmt.Sprint(got) != fmt.Sprint(allowed.Networks) {
					t.Errorf("the child accepts %v", got)
				}
				s := w.status(0)
				if len(s.Warnings) != 0 || s.Drops.Source != 7 || w.logs[0].count("inner packets dropped by their source") != 0 {
					t.Errorf("%q, %+v", s.Warnings, s.Drops)
				}
			})
		})
	}
}

func TestWarningNamesAFewNetworksOnly(t *testing.T) {
	inTwo(t, func(_ int, c *config.Peer) {
		for i := range 500 {
			c.Routes = append(c.Routes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
		}
	}, func(t *testing.T, w *two) {
		w.await(time.Second, ctl.StateUp, 0, 1)
		w.dropSources(0, 1)
		if s := w.status(0); len(s.Warnings) != 1 || len(s.Warnings[0]) > 400 || !strings.Contains(s.Warnings[0], "and 492 more") {
			t.Errorf("%q", s.Warnings)
		}
	})
}
