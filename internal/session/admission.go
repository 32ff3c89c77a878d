package session

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// The limits on connections that have not authenticated.
const (
	maxPrelude        = 256 // before a good prelude; the oldest makes room
	maxHandshakes     = 32  // in TLS
	reservedHandshake = 8   // of these, kept for the sources of configured peers
	maxPerHost        = 4   // per IPv4 address or IPv6 /64, in both stages
	maxPerSite        = 16  // per IPv6 /48
)

// admission counts the connections of a listener that have not authenticated, and decides
// which may stay. It is safe for concurrent use; it closes connections under its lock, which
// never blocks.
type admission struct {
	mu       sync.Mutex
	guests   []*guest // in the order of arrival
	hosts    map[netip.Prefix]int
	sites    map[netip.Prefix]int
	waiting  int // before the prelude
	shaking  int // in TLS
	ordinary int // of these, from no reserved source
}

// guest is one such connection.
type guest struct {
	conn     net.Conn
	host     netip.Prefix
	site     netip.Prefix // of an IPv6 address only
	reserved bool
	shaking  bool
	gone     bool
}

func newAdmission() *admission {
	return &admission{hosts: make(map[netip.Prefix]int), sites: make(map[netip.Prefix]int)}
}

// admit lets a new connection in, if need be for the oldest of its kind that has not sent
// a good prelude; nil if there is no room.
func (a *admission) admit(conn net.Conn, source netip.Addr, reserved bool) *guest {
	g := &guest{conn: conn, reserved: reserved}
	source = source.Unmap()
	if source.Is4() {
		g.host, _ = source.Prefix(32)
	} else {
		source = source.WithZone("")
		g.host, _ = source.Prefix(64)
		g.site, _ = source.Prefix(48)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.makeRoomLocked(g) {
		return nil
	}
	a.guests = append(a.guests, g)
	a.waiting++
	a.hosts[g.host]++
	if g.site.IsValid() {
		a.sites[g.site]++
	}
	return g
}

func (a *admission) makeRoomLocked(g *guest) bool {
	if a.hosts[g.host] >= maxPerHost && !a.evictLocked(func(o *guest) bool { return o.host == g.host }) {
		return false
	}
	if g.site.IsValid() && a.sites[g.site] >= maxPerSite && !a.evictLocked(func(o *guest) bool { return o.site == g.site }) {
		return false
	}
	if a.waiting < maxPrelude {
		return true
	}
	return a.evictLocked(func(o *guest) bool { return !o.reserved }) ||
		g.reserved && a.evictLocked(func(*guest) bool { return true })
}

// evictLocked closes the oldest connection before its prelude that fits.
func (a *admission) evictLocked(fits func(*guest) bool) bool {
	for _, g := range a.guests {
		if !g.shaking && fits(g) {
			a.removeLocked(g)
			_ = g.conn.Close()
			return true
		}
	}
	return false
}

// promote moves a connection with a good prelude on to TLS.
func (a *admission) promote(g *guest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	full := a.shaking >= maxHandshakes || !g.reserved && a.ordinary >= maxHandshakes-reservedHandshake
	if g.gone || full {
		return false
	}
	g.shaking = true
	a.waiting--
	a.shaking++
	if !g.reserved {
		a.ordinary++
	}
	return true
}

// leave ends the counting of a connection, because it is authenticated or closed.
func (a *admission) leave(g *guest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.removeLocked(g)
}

func (a *admission) removeLocked(g *guest) {
	if g.gone {
		return
	}
	g.gone = true
	at := slices.Index(a.guests, g)
	a.guests = slices.Delete(a.guests, at, at+1)
	decrease(a.hosts, g.host)
	if g.site.IsValid() {
		decrease(a.sites, g.site)
	}
	switch {
	case !g.shaking:
		a.waiting--
	case g.reserved:
		a.shaking--
	default:
		a.shaking--
		a.ordinary--
	}
}

func decrease(counts map[netip.Prefix]int, p netip.Prefix) {
	if counts[p]--; counts[p] == 0 {
		delete(counts, p)
	}
}

// closeAll ends every connection that has not authenticated.
func (a *admission) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.guests {
		_ = g.conn.Close()
	}
}
