package peer_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/pipe"
)

// liveKey is another value of a key, and how it shows in a tunnel that is open.
type liveKey struct {
	change func(c *config.Peer)
	both   bool // the other side needs it too
	shows  func(w *two) bool
}

var anotherSecret = keys.Secret{7}

func liveKeys() map[string]liveKey {
	network, host := netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("10.8.0.1/24")
	return map[string]liveKey{
		"endpoints": {
			change: func(c *config.Peer) { c.Endpoints = []config.Endpoint{{Host: "192.0.2.9", Port: 7901}} },
			shows:  func(w *two) bool { return w.lastDialled(0) == netip.MustParseAddrPort("192.0.2.9:7901") },
		},
		"addresses": {
			change: func(c *config.Peer) { c.Addresses = []netip.Prefix{host} },
			shows:  onDevice(func(s netcfg.Settings) bool { return slices.Equal(s.Addresses, []netip.Prefix{host}) }),
		},
		"peer_address": {
			change: func(c *config.Peer) { c.PeerAddress = host.Addr().Next() },
			shows:  onDevice(func(s netcfg.Settings) bool { return s.PeerAddress == host.Addr().Next() }),
		},
		"routes": {
			change: func(c *config.Peer) { c.Routes = []netip.Prefix{network} },
			shows:  onDevice(func(s netcfg.Settings) bool { return slices.Equal(s.Routes, []netip.Prefix{network}) }),
		},
		"mtu": {
			change: func(c *config.Peer) { c.MTU = 1303 },
			shows:  onDevice(func(s netcfg.Settings) bool { return s.MTU == 1303 }),
		},
		"allowed_ips": {
			change: func(c *config.Peer) { c.AllowedIPs = config.Allowed{Networks: []netip.Prefix{network}} },
			shows:  inChild(func(c pipe.Configure) bool { return slices.Equal(c.AllowedIPs, []netip.Prefix{network}) }),
		},
		"keepalive": {
			change: func(c *config.Peer) { c.Keepalive = 3 * time.Second },
			shows:  inChild(func(c pipe.Configure) bool { return c.Keepalive == 3*time.Second }),
		},
		"key_lifetime": {
			change: func(c *config.Peer) { c.KeyLifetime = 5 * time.Hour },
			shows:  inChild(func(c pipe.Configure) bool { return c.KeyLifetime == 5*time.Hour }),
		},
		"preshared_key_file": {
			change: func(c *config.Peer) { c.PresharedKey = &anotherSecret },
			both:   true,
			shows:  func(w *two) bool { psk := w.peers[0].PSK(); return psk != nil && psk.Equal(&anotherSecret) },
		},
		"rekey_interval": {
			change: func(c *config.Peer) { c.RekeyInterval = 10 * time.Second },
			shows: func(w *two) bool {
				before := w.status(0).Epoch
				time.Sleep(2 * time.Minute) // epochs of the old length end by then
				return w.status(0).Epoch > before+3
			},
		},
		"accept_stay_down": {
			change: func(c *config.Peer) { c.AcceptStayDown = false },
			shows: func(w *two) bool {
				_, err := w.peers[1].Down(w.t.Context(), true)
				synctest.Wait()
				return err == nil && w.nodes[0].Held("other") == ""
			},
		},
		"enabled": {
			change: func(c *config.Peer) { c.Enabled = !c.Enabled },
			shows:  func(w *two) bool { return (w.status(0).State == ctl.StateDisabled) != w.peers[0].Config().Enabled },
		},
	}
}

func onDevice(ok func(netcfg.Settings) bool) func(w *two) bool {
	return func(w *two) bool {
		end := w.wires.end(0)
		return end != nil && ok(end.applied[len(end.applied)-1])
	}
}

func inChild(ok func(pipe.Configure) bool) func(w *two) bool {
	return func(w *two) bool {
		end := w.wires.end(0)
		return end != nil && ok(end.inForce)
	}
}

// situation is a state of a peer: how it comes into it, and out of it.
type situation struct {
	name       string
	begin, end func(w *two)
}

func situations() []situation {
	return []situation{
		{"disabled", func(w *two) { w.enable(false) }, func(w *two) { w.enable(true) }},
		{"held down", func(w *two) { _, _ = w.peers[0].Down(w.t.Context(), false) }, func(w *two) { w.up() }},
		{
			"not opened",
			func(w *two) { w.wires.setBroken(0, true); w.enable(false); w.enable(true) },
			func(w *two) { w.wires.setBroken(0, false) },
		},
		{
			"open without a session",
			func(w *two) { w.setOff(true); w.cutSessions() },
			func(w *two) { w.setOff(false) },
		},
		{
			"without a child",
			func(w *two) { w.wires.end(0).die() },
			func(w *two) {
				if end := w.wires.end(0); end != nil {
					end.revive()
				}
			},
		},
		{"up", func(*two) {}, func(*two) {}},
	}
}

func (w *two) enable(on bool) {
	w.update(0, func(c *config.Peer) { c.Enabled = on }, "enabled")
}

func (w *two) update(side int, change func(c *config.Peer), key string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	_ = w.peers[side].Update(ctx, w.config(side, change), live(key)) // the state tells
}

// up does not wait for the session.
func (w *two) up() {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	_ = w.peers[0].Up(ctx)
}

func TestALiveKeyIsInForceWhateverStateItsChangeMeets(t *testing.T) {
	known := liveKeys()
	for _, k := range config.Schema() {
		if k.Table != "peer" || k.Class != config.Live {
			continue
		}
		key, ok := known[k.Name]
		if !ok {
			t.Errorf("no test for %s", k.Name)
			continue
		}
		for _, s := range situations() {
			t.Run(k.Name+" while "+s.name, func(t *testing.T) {
				inTwo(t, nil, func(t *testing.T, w *two) { meet(t, w, k.Name, key, s) })
			})
		}
	}
}

// meet changes a key in a situation, and looks at it after that.
func meet(t *testing.T, w *two, name string, key liveKey, s situation) {
	w.await(time.Second, ctl.StateUp, 0, 1)
	s.begin(w)
	synctest.Wait()
	w.update(0, key.change, name)
	if key.both {
		w.update(1, key.change, name)
	}
	synctest.Wait()
	s.end(w)
	if name != "enabled" {
		w.await(2*time.Minute, ctl.StateUp, 0, 1)
		w.mustWork()
	}
	synctest.Wait()
	if !key.shows(w) {
		t.Errorf("%s is not in force: %+v", name, w.status(0))
	}
}
