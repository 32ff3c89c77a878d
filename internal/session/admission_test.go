package session

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"tund/internal/keys"
)

// closable is a connection that only knows whether it was closed.
type closable struct {
	net.Conn
	closed bool
}

func (c *closable) Close() error { c.closed = true; return nil }

func addr4(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func TestOldestWithoutPreludeMakesRoomInItsClass(t *testing.T) {
	for _, isPreferred := range []bool{false, true} {
		a := NewAdmission()
		other := &closable{}
		a.admit(other, addr4(5000), !isPreferred)
		size := maxPreludes
		if isPreferred {
			size = maxPreferredPreludes
		}
		var conns []*closable
		for n := range size + 1 {
			c := &closable{}
			conns = append(conns, c)
			a.admit(c, addr4(n), isPreferred)
		}
		if !conns[0].closed || conns[1].closed || conns[size].closed {
			t.Errorf("preferred %t: not the oldest was closed", isPreferred)
		}
		if other.closed {
			t.Errorf("preferred %t: one of the other class was closed", isPreferred)
		}
	}
}

func TestSourcesHaveTheirShareBeforeThePrelude(t *testing.T) {
	for name, c := range map[string]struct {
		limit  int
		source func(n int) string
	}{
		"IPv4 address": {maxPreludesPerHost, func(int) string { return "192.0.2.1" }},
		"mapped":       {maxPreludesPerHost, func(n int) string { return []string{"192.0.2.1", "::ffff:192.0.2.1"}[n%2] }},
		"IPv6 /64":     {maxPreludesPerHost, func(n int) string { return fmt.Sprintf("2001:db8::%x", n+1) }},
		"IPv6 zone":    {maxPreludesPerHost, func(n int) string { return fmt.Sprintf("fe80::%x%%eth%d", n+1, n) }},
		"IPv6 /48":     {maxPreludesPerSite, func(n int) string { return fmt.Sprintf("2001:db8:0:%x::1", n+1) }},
	} {
		a := NewAdmission()
		elsewhere := &closable{}
		a.admit(elsewhere, netip.MustParseAddr("2001:db8:1::1"), false)
		var conns []*closable
		for n := range c.limit + 1 {
			conn := &closable{}
			conns = append(conns, conn)
			a.admit(conn, netip.MustParseAddr(c.source(n)), false)
		}
		if !conns[0].closed || conns[1].closed || conns[c.limit].closed || elsewhere.closed {
			t.Errorf("%s: not its own oldest was closed", name)
		}
	}
}

func TestPoolOfHandshakesHoldsWhatItsBudgetBegins(t *testing.T) {
	for c, rate := range map[class][2]int{
		ordinary:  {handshakeBurst, handshakesPerSecond},
		preferred: {preferredBurst, preferredPerSecond},
	} {
		if size := NewAdmission().pools[c][inHandshake].size; size < rate[0]+rate[1]*int(answerLimit/time.Second) {
			t.Errorf("class %d: a handshake can be made to go before its time, in a pool of %d", c, size)
		}
	}
}

func TestOldestHandshakeGoesUnderPressure(t *testing.T) {
	a := NewAdmission()
	a.pools[ordinary][inHandshake].size = 3
	var conns []*closable
	for n := range 4 {
		c := &closable{}
		conns = append(conns, c)
		if !a.promote(a.admit(c, addr4(n), false)) {
			t.Fatalf("handshake %d refused", n)
		}
	}
	if !conns[0].closed || conns[1].closed || conns[3].closed {
		t.Error("not the oldest went")
	}
}

func TestConnectionsLeaveNothingBehind(t *testing.T) {
	a := NewAdmission()
	var all []*pending
	for n := range 40 {
		p := a.admit(&closable{}, netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", n)), n%2 == 0)
		if n%3 == 0 {
			a.promote(p)
		}
		all = append(all, p)
	}
	for _, p := range all {
		if !a.leave(p) || a.leave(p) {
			t.Error("left not once")
		}
	}
	for c := range classes {
		for s := range stages {
			if left := a.pools[c][s].members; len(left) != 0 {
				t.Errorf("class %d, stage %d: %d left", c, s, len(left))
			}
		}
	}
}

func TestOnlyTheLastUnknownKeysAreRemembered(t *testing.T) {
	a := NewAdmission()
	remote, begun := netip.MustParseAddrPort("192.0.2.1:4000"), time.Unix(1000, 0)
	for n := range 100 {
		a.refused.addKey(keys.PublicKey{byte(n)}, remote, begun.Add(time.Duration(n)*time.Second))
	}
	a.refused.addKey(keys.PublicKey{95}, remote, begun.Add(time.Hour))
	found := a.RefusedKeys()
	if len(found) != maxRefusedKeys || a.Refused().UnknownKey != 101 {
		t.Fatalf("%d keys of %d", len(found), a.Refused().UnknownKey)
	}
	if want := (RefusedKey{keys.PublicKey{95}, remote, begun.Add(time.Hour), 2}); found[0] != want || found[1].Key != (keys.PublicKey{99}) {
		t.Errorf("%+v", found)
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

func TestEvictAllLeavesNobodyWhoHasNotAuthenticated(t *testing.T) {
	a := NewAdmission()
	var conns []*closable
	var all []*pending
	for n := range 6 {
		c := &closable{}
		conns = append(conns, c)
		all = append(all, a.admit(c, addr4(n), n%2 == 0))
	}
	if !a.promote(all[0]) || !a.promote(all[1]) || !a.leave(all[2]) {
		t.Fatal("nobody gets on")
	}
	a.EvictAll()
	for n, c := range conns {
		if authenticated := n == 2; c.closed == authenticated {
			t.Errorf("connection %d closed: %t", n, c.closed)
		}
		if n != 2 && a.leave(all[n]) {
			t.Errorf("connection %d is counted still", n)
		}
	}
}
