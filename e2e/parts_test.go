package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tund/e2e/lab"
)

// waitState waits until beta's peer alpha, seen from alpha, is in a state for a reason.
func waitState(t *testing.T, n *lab.Node, state, why string) {
	t.Helper()
	n.WaitPeer("beta", lab.Patience, state+" "+why, func(s lab.PeerStatus) bool {
		return s.State == state && strings.Contains(s.LastError, why)
	})
}

// A route that somebody else has taken costs neither the tunnel nor its device, at a restart either, and
// is had again when it is free.
func TestATakenRouteDegradesTheTunnelOverARestart(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.AlphaTable.Set("beta", "routes", `["10.20.0.0/16"]`)
	p.Alpha.Configure(p.AlphaTable)
	m := p.Alpha.Manage(0)
	m.Keep()
	p.Up()
	index := p.Alpha.Index(p.AlphaDevice)
	p.Alpha.AddLink("other", "type", "bridge")
	p.Alpha.IP("link", "set", "other", "up")
	p.Alpha.IP("route", "replace", "10.20.0.0/16", "dev", "other")
	const why = "route 10.20.0.0/16: it exists already: dev other"
	waitState(t, p.Alpha, "degraded", why)
	p.Alpha.Stop()
	p.Alpha.Start()
	waitState(t, p.Alpha, "degraded", why)
	if now := p.Alpha.Index(p.AlphaDevice); now != index {
		t.Errorf("the device was %d and is %d", index, now)
	}
	wantPing(t, p.Alpha, lab.BetaInner4)
	var r lab.Reload
	if code := p.Alpha.CtlJSON(&r, "reload"); code != 5 || r.Result != "partly" {
		t.Errorf("reload: exit %d, %+v", code, r)
	}
	p.Alpha.IP("link", "del", "other")
	waitState(t, p.Alpha, "up", "")
	if route := p.Alpha.IP("route", "show", "10.20.0.0/16"); !strings.Contains(route, p.AlphaDevice) {
		t.Errorf("the route is %q", route)
	}
	p.Alpha.IP("link", "set", p.AlphaDevice, "down")
	waitState(t, p.Alpha, "degraded", "link: something else has set it down")
	p.Alpha.IP("link", "set", p.AlphaDevice, "up")
	waitState(t, p.Alpha, "up", "")
	wantPing(t, p.Alpha, lab.BetaInner4)
}

// A listen address that comes later keeps nobody waiting.
func TestAListenAddressMayComeLater(t *testing.T) {
	t.Parallel()
	const later = "192.0.2.77"
	p := newPair(t, lab.PairOptions{})
	p.AlphaTable.Node = []string{fmt.Sprintf(`listen = ["%s:%d"]`, later, lab.Port)}
	p.Alpha.Configure(p.AlphaTable)
	p.Up()
	wantPing(t, p.Alpha, lab.BetaInner4)
	lacks := fmt.Sprintf("listen %s:%d: UDP: cannot assign requested address", later, lab.Port)
	wantWords(t, "status", p.Alpha.Ctl("status").Stderr, lacks)
	p.Alpha.IP("addr", "add", later+"/32", "dev", "lo")
	within(t, "alpha listens there", func() bool { return !strings.Contains(p.Alpha.Ctl("status").Stderr, lacks) })
	wantPing(t, p.Alpha, lab.BetaInner4)
}

// A bridge that is missing, at the start or at a reload, is joined when it comes.
func TestABridgeMayComeLater(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{Mode: "tap"})
	p.AlphaTable.Unset("beta", "addresses")
	p.AlphaTable.Set("beta", "bridge", `"br0"`)
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.Start()
	p.Beta.Start()
	joined := func(bridge string) func() bool {
		return func() bool {
			return strings.Contains(p.Alpha.IP("link", "show", p.AlphaDevice), "master "+bridge+" ")
		}
	}
	for _, bridge := range []string{"br0", "br1"} {
		waitState(t, p.Alpha, "degraded", "bridge "+bridge+": it does not exist")
		p.Alpha.AddLink(bridge, "type", "bridge")
		within(t, "a port of "+bridge, joined(bridge))
		waitState(t, p.Alpha, "up", "")
		p.AlphaTable.Set("beta", "bridge", `"br1"`)
		p.Alpha.Configure(p.AlphaTable)
	}
}
