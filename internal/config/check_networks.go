package config

import (
	"cmp"
	"net/netip"
	"slices"
)

// networks maps networks to the names of peers.
type networks map[netip.Prefix]string

// covering returns the smallest network that contains all of n, n included.
func (m networks) covering(n netip.Prefix) (netip.Prefix, string, bool) {
	for bits := n.Bits(); bits >= 0; bits-- {
		outer, _ := n.Addr().Prefix(bits)
		if peer, ok := m[outer]; ok {
			return outer, peer, true
		}
	}
	return netip.Prefix{}, "", false
}

// claim is one network that a peer's addresses connect it to.
type claim struct {
	peer    *Peer
	key     string
	element any
	network netip.Prefix
}

// checkAddresses refuses addresses and networks that two peers have. Link-local ones
// belong to their device and may be the same on each.
func (c *checker) checkAddresses() networks {
	var claims []claim
	for i := range c.cfg.Peers {
		claims = append(claims, claimsOf(&c.cfg.Peers[i])...)
	}
	slices.SortStableFunc(claims, func(a, b claim) int { // the wider first
		return cmp.Compare(a.network.Bits(), b.network.Bits())
	})
	connected := make(networks)
	for _, cl := range claims {
		outer, peer, taken := connected.covering(cl.network)
		switch {
		case !taken:
			connected[cl.network] = cl.peer.Name
		case peer != cl.peer.Name:
			c.failAt(cl.peer, cl.key, cl.element, "%v overlaps %s of peer %s", cl.element, outer, peer)
		}
	}
	return connected
}

// claimsOf are those that no other peer may have.
func claimsOf(p *Peer) []claim {
	return slices.DeleteFunc(connectedNetworks(p), func(c claim) bool { return c.network.Addr().IsLinkLocalUnicast() })
}

// connectedNetworks are the networks that a peer's addresses connect it to.
func connectedNetworks(p *Peer) []claim {
	var claims []claim
	add := func(key string, element any, n netip.Prefix) {
		claims = append(claims, claim{peer: p, key: key, element: element, network: n.Masked()})
	}
	for _, a := range p.Addresses {
		add("addresses", a, a)
	}
	if own, count := pointToPoint(p); p.PeerAddress.IsValid() && count == 1 {
		add("peer_address", p.PeerAddress, netip.PrefixFrom(p.PeerAddress, own.Bits()))
	}
	return claims
}

// checkRoutes refuses a route that two peers have, or that an address makes anyway.
func (c *checker) checkRoutes(connected networks) networks {
	routes := make(networks)
	for i := range c.cfg.Peers {
		p := &c.cfg.Peers[i]
		for _, r := range p.Routes {
			if other, taken := routes[r]; taken {
				c.failAt(p, "routes", r, "%s is already a route of peer %s", r, other)
				continue
			}
			routes[r] = p.Name
			if other, taken := connected[r]; taken {
				c.failAt(p, "routes", r, "%s is there already, by the addresses of peer %s", r, other)
			}
		}
	}
	return routes
}

// checkEndpoints refuses a tunnel that would carry its own datagrams.
func (c *checker) checkEndpoints(connected, routes networks) {
	for i := range c.cfg.Peers {
		p := &c.cfg.Peers[i]
		for _, e := range p.Endpoints {
			addr, ok := e.Addr()
			if !ok {
				continue
			}
			c.checkEndpoint(p, e, netip.PrefixFrom(addr.WithZone(""), addr.BitLen()), connected, routes)
		}
	}
}

func (c *checker) checkEndpoint(p *Peer, e Endpoint, host netip.Prefix, connected, routes networks) {
	if route, owner, ok := routes.covering(host); ok {
		o, _ := c.cfg.Peer(owner)
		c.failAt(&o, "routes", route, "%s covers %s, an endpoint of peer %s: it would swallow the tunnel itself", route, e, p.Name)
	}
	if network, owner, ok := connected.covering(host); ok && owner == p.Name {
		c.failAt(p, "endpoints", e, "%s lies in %s, inside this tunnel: it would swallow itself", e, network)
	}
}
