package session

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// The limits on connections that have not authenticated: how many may wait for a good prelude,
// and how many may be in TLS. In each of the four pools a new connection makes the oldest one go.
// A pool of TLS handshakes has room for all that its budget begins within answerLimit, so there
// the oldest one has had its time.
const (
	maxPreludes            = 256
	maxPreferredPreludes   = 128
	maxHandshakes          = handshakeBurst + handshakesPerSecond*answerSeconds
	maxPreferredHandshakes = preferredBurst + preferredPerSecond*answerSeconds
	maxPreludesPerHost     = 8  // per IPv4 address or IPv6 /64
	maxPreludesPerSite     = 32 // per IPv6 /48
)

// Admission decides which connections of a node may stay before they have authenticated, and which
// of them are worth the work of a TLS handshake. All listeners of a node share one. It knows two
// classes of sources, which take nothing from each other: those that configured peers are expected
// at, and all others. It is safe for concurrent use.
type Admission struct {
	seen    *replays
	budgets [classes]*budget
	refused refusals

	mu    sync.Mutex // held while connections are closed, which never blocks
	pools [classes][stages]pool
}

type class uint8

const (
	ordinary  class = iota
	preferred       // from where a configured peer is expected
	classes
)

type stage uint8

const (
	awaitingPrelude stage = iota
	inHandshake
	stages
)

// pool holds connections, the oldest first.
type pool struct {
	size    int
	perHost int // 0: no limit
	perSite int
	members []*pending
}

// pending is a connection that has not authenticated.
type pending struct {
	conn    net.Conn
	source  source
	class   class
	stage   stage
	evicted chan struct{} // closed when it had to go
	out     bool          // in no pool any more; guarded by the Admission's lock
}

// source is where a connection comes from, as far as limits look.
type source struct {
	host netip.Prefix // IPv4 address or IPv6 /64
	site netip.Prefix // IPv6 /48; zero for IPv4
}

func sourceOf(addr netip.Addr) (s source) {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		s.host, _ = addr.Prefix(32)
		return s
	}
	s.host, _ = addr.Prefix(64)
	s.site, _ = addr.Prefix(48)
	return s
}

// NewAdmission returns one that has seen nobody yet.
func NewAdmission() *Admission {
	a := &Admission{seen: newReplays()}
	a.budgets[ordinary] = newBudget(handshakesPerSecond, handshakeBurst)
	a.budgets[preferred] = newBudget(preferredPerSecond, preferredBurst)
	for c, sizes := range [classes][stages]int{{maxPreludes, maxHandshakes}, {maxPreferredPreludes, maxPreferredHandshakes}} {
		a.pools[c][awaitingPrelude] = pool{size: sizes[0], perHost: maxPreludesPerHost, perSite: maxPreludesPerSite}
		a.pools[c][inHandshake] = pool{size: sizes[1]}
	}
	return a
}

// EvictAll makes all connections go that have not authenticated.
func (a *Admission) EvictAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.pools {
		for s := range a.pools[c] {
			for _, p := range slices.Clone(a.pools[c][s].members) {
				a.evictLocked(p)
			}
		}
	}
}

// admit lets a new connection in, if need be for the oldest one that stands in its way.
func (a *Admission) admit(conn net.Conn, addr netip.Addr, isPreferred bool) *pending {
	p := &pending{conn: conn, source: sourceOf(addr), evicted: make(chan struct{})}
	if isPreferred {
		p.class = preferred
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addLocked(p)
	return p
}

// promote moves a connection with a good prelude on to TLS, if its source has not used up what
// handshakes may cost.
func (a *Admission) promote(p *pending) bool {
	if !a.budgets[p.class].take(p.source) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.removeLocked(p) {
		return false
	}
	p.stage, p.out = inHandshake, false
	a.addLocked(p)
	return true
}

// leave ends the counting of a connection, because it is authenticated or closed. It says whether
// the connection had not been made to go.
func (a *Admission) leave(p *pending) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.removeLocked(p)
}

func (a *Admission) addLocked(p *pending) {
	in := &a.pools[p.class][p.stage]
	if o := in.inTheWay(p.source); o != nil {
		a.evictLocked(o)
	}
	in.members = append(in.members, p)
}

func (a *Admission) evictLocked(p *pending) {
	a.removeLocked(p)
	close(p.evicted)
	abort(p.conn)
}

func (a *Admission) removeLocked(p *pending) bool {
	if p.out {
		return false
	}
	p.out = true
	in := &a.pools[p.class][p.stage]
	at := slices.Index(in.members, p)
	in.members = slices.Delete(in.members, at, at+1)
	return true
}

// inTheWay is the member that must go for a new one from this source: the oldest of a host or site
// that has its share, else the oldest of all if the pool is full.
func (p *pool) inTheWay(s source) *pending {
	sameHost := func(o *pending) bool { return o.source.host == s.host }
	sameSite := func(o *pending) bool { return s.site.IsValid() && o.source.site == s.site }
	switch {
	case p.perHost > 0 && p.count(sameHost) >= p.perHost:
		return p.oldest(sameHost)
	case p.perSite > 0 && p.count(sameSite) >= p.perSite:
		return p.oldest(sameSite)
	case len(p.members) >= p.size:
		return p.members[0]
	default:
		return nil
	}
}

func (p *pool) count(fits func(*pending) bool) (n int) {
	for _, o := range p.members {
		if fits(o) {
			n++
		}
	}
	return n
}

func (p *pool) oldest(fits func(*pending) bool) *pending {
	return p.members[slices.IndexFunc(p.members, fits)]
}

// abort closes a connection with a reset. All connections that end before TLS end like this,
// whatever they have sent and whyever they end: what is unread would make a reset of some of them.
func abort(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
