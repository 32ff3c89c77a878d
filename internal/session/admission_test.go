package session

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// closable is a connection that only knows whether it was closed.
type closable struct {
	net.Conn
	closed bool
}

func (c *closable) Close() error { c.closed = true; return nil }

func addr4(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func TestOldestWithoutPreludeMakesRoom(t *testing.T) {
	a := newAdmission()
	var conns []*closable
	for n := range maxPrelude {
		c := &closable{}
		conns = append(conns, c)
		if a.admit(c, addr4(n), n == 0) == nil {
			t.Fatalf("connection %d refused", n)
		}
	}
	if a.admit(&closable{}, addr4(1000), false) == nil {
		t.Fatal("one more was refused")
	}
	if conns[0].closed || !conns[1].closed || conns[2].closed {
		t.Error("not the oldest of an ordinary source was closed")
	}
	if a.waiting != maxPrelude {
		t.Errorf("%d wait", a.waiting)
	}
}

func TestOrdinarySourceDoesNotPushOutReservedOnes(t *testing.T) {
	a := newAdmission()
	oldest := &closable{}
	a.admit(oldest, addr4(0), true)
	for n := 1; n < maxPrelude; n++ {
		a.admit(&closable{}, addr4(n), true)
	}
	if a.admit(&closable{}, addr4(1000), false) != nil {
		t.Error("an ordinary source got in")
	}
	if a.admit(&closable{}, addr4(1001), true) == nil || !oldest.closed {
		t.Error("a reserved source did not get in")
	}
}

func TestSourcesHaveTheirShare(t *testing.T) {
	for name, c := range map[string]struct {
		limit  int
		source func(n int) string
	}{
		"IPv4 address": {maxPerHost, func(int) string { return "192.0.2.1" }},
		"mapped":       {maxPerHost, func(n int) string { return []string{"192.0.2.1", "::ffff:192.0.2.1"}[n%2] }},
		"IPv6 /64":     {maxPerHost, func(n int) string { return fmt.Sprintf("2001:db8::%x", n+1) }},
		"IPv6 zone":    {maxPerHost, func(n int) string { return fmt.Sprintf("fe80::%x%%eth%d", n+1, n) }},
		"IPv6 /48":     {maxPerSite, func(n int) string { return fmt.Sprintf("2001:db8:0:%x::1", n+1) }},
	} {
		a := newAdmission()
		var guests []*guest
		for n := range c.limit {
			g := a.admit(&closable{}, netip.MustParseAddr(c.source(n)), false)
			if g == nil || !a.promote(g) {
				t.Fatalf("%s: connection %d refused", name, n)
			}
			guests = append(guests, g)
		}
		more := netip.MustParseAddr(c.source(c.limit))
		if a.admit(&closable{}, more, false) != nil {
			t.Errorf("%s: too many", name)
		}
		a.leave(guests[0])
		a.leave(guests[0]) // twice does no harm
		waiting := &closable{}
		if a.admit(waiting, more, false) == nil {
			t.Errorf("%s: no room again", name)
		}
		if a.admit(&closable{}, more, false) == nil || !waiting.closed {
			t.Errorf("%s: the one without prelude did not make room", name)
		}
	}
}

func TestHandshakesAreKeptForConfiguredSources(t *testing.T) {
	a := newAdmission()
	promoted := func(n int, reserved bool) bool {
		g := a.admit(&closable{}, addr4(n), reserved)
		return g != nil && a.promote(g)
	}
	for n := range maxHandshakes - reservedHandshake {
		if !promoted(n, false) {
			t.Fatalf("handshake %d refused", n)
		}
	}
	if promoted(100, false) {
		t.Error("an ordinary source took a reserved place")
	}
	for n := range reservedHandshake {
		if !promoted(200+n, true) {
			t.Fatalf("reserved handshake %d refused", n)
		}
	}
	if promoted(300, true) {
		t.Error("more than all places")
	}
}

func TestGuestsLeaveNothingBehind(t *testing.T) {
	a := newAdmission()
	var guests []*guest
	for n := range 40 {
		g := a.admit(&closable{}, netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", n)), n%2 == 0)
		if n%3 == 0 {
			a.promote(g)
		}
		guests = append(guests, g)
	}
	for _, g := range guests {
		a.leave(g)
	}
	if len(a.guests)+len(a.hosts)+len(a.sites)+a.waiting+a.shaking+a.ordinary != 0 {
		t.Errorf("%+v", a)
	}
}

func TestReplaysRemembersTheLast65536(t *testing.T) {
	r := newReplays()
	random := func(n int) [randomSize]byte { return [randomSize]byte{byte(n), byte(n >> 8), byte(n >> 16), 1} }
	for n := range replayMemory {
		if !r.add(random(n)) {
			t.Fatalf("random %d is new", n)
		}
	}
	if r.add(random(0)) || r.add(random(replayMemory-1)) {
		t.Error("a replay was taken")
	}
	if !r.add(random(replayMemory)) || !r.add(random(0)) {
		t.Error("the oldest is not forgotten")
	}
	if len(r.known) != replayMemory || len(r.ring) != replayMemory {
		t.Errorf("memory of %d and %d", len(r.known), len(r.ring))
	}
}
