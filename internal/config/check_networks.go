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

// checkAddresses refuses what would leave open behind which peer an address is: networks, wider than a
// host, that overlap, and the same address as that of two peers. This node's own address may be the
// same towards several peers, as on unnumbered links, and lie in another one's network. What is
// link-local belongs to its device and may be the same on each.
func (c *checker) checkAddresses() networks {
	var wide, hosts []claim
	own := make(networks) // of one address each
	for i := range c.cfg.Peers {
		for _, cl := range claimsOf(&c.cfg.Peers[i]) {
			switch {
			case !cl.network.IsSingleIP():
				wide = append(wide, cl)
			case cl.key == "peer_address":
				hosts = append(hosts, cl)
			}
		}
		for _, a := range c.cfg.Peers[i].Addresses {
			own.add(netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), c.cfg.Peers[i].Name)
		}
	}
	connected := c.checkWide(wide)
	c.checkHosts(hosts, own, connected)
	for i := range c.cfg.Peers {
		for _, a := range c.cfg.Peers[i].Addresses {
			if a.IsSingleIP() {
				connected.add(a, c.cfg.Peers[i].Name)
			}
		}
	}
	return connected
}

// add keeps the first peer of a network.
func (m networks) add(n netip.Prefix, peer string) {
	if _, taken := m[n]; !taken {
		m[n] = peer
	}
}

func (c *checker) checkWide(claims []claim) networks {
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

// checkHosts looks at the peers' own addresses, and adds them to connected.
func (c *checker) checkHosts(hosts []claim, own, connected networks) {
	for _, cl := range hosts {
		if peer, taken := own[cl.network]; taken && peer != cl.peer.Name {
			c.failAt(cl.peer, cl.key, cl.element, "%v is this node's own address towards peer %s", cl.element, peer)
			continue
		}
		if peer, taken := connected[cl.network]; taken && peer != cl.peer.Name {
			c.failAt(cl.peer, cl.key, cl.element, "%v is the address of peer %s already", cl.element, peer)
			continue
		}
		connected[cl.network] = cl.peer.Name
	}
}

// claimsOf are the networks that are reached through a peer's device. On a point-to-point
// address that is the peer's network, and none of its own.
func claimsOf(p *Peer) []claim {
	own, count := pointToPoint(p)
	toPoint := p.PeerAddress.IsValid() && count == 1
	var claims []claim
	for _, a := range p.Addresses {
		if !toPoint || a != own {
			claims = append(claims, claim{peer: p, key: "addresses", element: a, network: a.Masked()})
		}
	}
	if toPoint {
		network := netip.PrefixFrom(p.PeerAddress, p.PeerAddress.BitLen())
		if own.Contains(p.PeerAddress) {
			network = own.Masked()
		}
		claims = append(claims, claim{peer: p, key: "peer_address", element: p.PeerAddress, network: network})
	}
	return slices.DeleteFunc(claims, func(c claim) bool { return c.network.Addr().IsLinkLocalUnicast() })
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
