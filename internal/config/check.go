package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"tund/internal/keys"
)

// checker compares the parts of a filled Config with each other. A field that could
// not be read is zero, and no check complains about it again.
type checker struct {
	cfg *Config
	b   *builder
}

// fail reports a problem of a peer's key, or with key "" of its table.
func (c *checker) fail(p *Peer, key, format string, args ...any) {
	c.failAt(p, key, nil, format, args...)
}

// failAt reports at the line of an element of the key's list.
func (c *checker) failAt(p *Peer, key string, element any, format string, args ...any) {
	d := c.b.origin[p.Name]
	path := toml.Key{tablePeer, p.Name, key}
	line := d.lines[path.String()]
	if at := d.lines[elementName(path, element)]; at > 0 {
		line = at
	}
	if line == 0 {
		line = d.lines[path[:2].String()]
	}
	c.b.errs.add(d, line, path, format, args...)
}

func (c *checker) check() {
	c.checkListen()
	c.checkNames()
	c.checkInterfaces()
	c.checkPublicKeys()
	for i := range c.cfg.Peers {
		p := &c.cfg.Peers[i]
		c.checkMode(p)
		c.checkPeerAddress(p)
		c.checkMTU(p)
		c.checkTimes(p)
		c.checkDials(p)
	}
	connected := c.checkAddresses()
	routes := c.checkRoutes(connected)
	c.checkEndpoints(connected, routes)
}

// checkListen refuses two listeners of which only one could be bound.
func (c *checker) checkListen() {
	main, key := c.b.docs[0], toml.Key{tableNode, "listen"}
	for i, a := range c.cfg.Node.Listen {
		for _, other := range c.cfg.Node.Listen[:i] {
			if a.Port() == other.Port() && (takes(a.Addr(), other.Addr()) || takes(other.Addr(), a.Addr())) {
				c.b.errs.add(main, main.lines[elementName(key, a)], key, "%s and %s overlap", a, other)
			}
		}
	}
}

// takes says whether a listener on wildcard also takes what comes to addr. That of
// IPv6 takes IPv4 as well.
func takes(wildcard, addr netip.Addr) bool {
	return wildcard.IsUnspecified() && (wildcard.Is6() || addr.Is4())
}

// checkNames refuses names that differ in case only: they are too easily confused.
func (c *checker) checkNames() {
	first := make(map[string]string)
	for i := range c.cfg.Peers {
		p := &c.cfg.Peers[i]
		folded := strings.ToLower(p.Name)
		if other, taken := first[folded]; taken {
			c.failPeer(p, "differs from peer %s in case only", other)
			continue
		}
		first[folded] = p.Name
	}
}

// failPeer reports a problem of a peer as a whole.
func (c *checker) failPeer(p *Peer, format string, args ...any) {
	c.b.errs.add(c.b.origin[p.Name], 0, toml.Key{tablePeer, p.Name}, format, args...)
}

// checkInterfaces fills in the default names, after those that were given, and
// refuses a name that two peers have.
func (c *checker) checkInterfaces() {
	owner := make(map[string]string)
	for _, given := range []bool{true, false} {
		for i := range c.cfg.Peers {
			p := &c.cfg.Peers[i]
			if c.isGiven(p, "interface") != given {
				continue
			}
			if !given && p.Mode != "" && peerName.MatchString(p.Name) {
				p.Interface = defaultInterface(p)
			}
			c.claimInterface(p, given, owner)
		}
	}
	for i := range c.cfg.Peers {
		p := &c.cfg.Peers[i]
		if other, taken := owner[p.Bridge]; taken && p.Bridge != "" {
			c.fail(p, "bridge", "%q is the device of peer %s", p.Bridge, other)
		}
	}
}

func (c *checker) claimInterface(p *Peer, given bool, owner map[string]string) {
	other, taken := owner[p.Interface]
	switch {
	case p.Interface == "":
	case !taken:
		owner[p.Interface] = p.Name
	case given:
		c.fail(p, "interface", "%q is already the device of peer %s", p.Interface, other)
	default:
		c.fail(p, "interface", "the default, %q, is already the device of peer %s: choose a name", p.Interface, other)
	}
}

func defaultInterface(p *Peer) string {
	name := p.Mode + "-" + p.Name
	return name[:min(len(name), maxInterfaceName)]
}

// isGiven says whether the key stands in the peer's table.
func (c *checker) isGiven(p *Peer, key string) bool {
	_, ok := c.b.origin[p.Name].lookup(toml.Key{tablePeer, p.Name, key})
	return ok
}

func (c *checker) checkPublicKeys() {
	owner := make(map[keys.PublicKey]string)
	for i := range c.cfg.Peers {
		p := &c.cfg.Peers[i]
		other, taken := owner[p.PublicKey]
		switch {
		case p.PublicKey.IsZero():
		case taken:
			c.fail(p, "public_key", "is already the key of peer %s", other)
		default:
			owner[p.PublicKey] = p.Name
		}
	}
}

func (c *checker) checkMode(p *Peer) {
	if p.Mode == ModeTUN && p.Bridge != "" {
		c.fail(p, "bridge", `needs mode "tap": a bridge forwards Ethernet frames, a tun carries IP packets`)
	}
	if p.Mode == ModeTAP && (p.AllowedIPs.Any || len(p.AllowedIPs.Networks) > 0) {
		c.fail(p, "allowed_ips", `needs mode "tun": inner source addresses exist only for IP packets, a tap carries Ethernet frames, and nothing is filtered`)
	}
}

func (c *checker) checkPeerAddress(p *Peer) {
	if !p.PeerAddress.IsValid() {
		return
	}
	own, count := pointToPoint(p)
	switch {
	case count != 1:
		c.fail(p, "peer_address", "needs exactly one address of its family in addresses; there are %d", count)
	case own.Addr() == p.PeerAddress:
		c.fail(p, "peer_address", "is this node's own address")
	}
}

// pointToPoint returns the address that peer_address belongs to, and how many there
// are of its family.
func pointToPoint(p *Peer) (own netip.Prefix, count int) {
	for _, a := range p.Addresses {
		if a.Addr().Is4() == p.PeerAddress.Is4() {
			own = a
			count++
		}
	}
	return own, count
}

func (c *checker) checkMTU(p *Peer) {
	if p.MTU >= minMTU && p.MTU < minMTUIPv6 && usesIPv6(p) {
		c.fail(p, "mtu", "%d is too small: IPv6 needs at least %d", p.MTU, minMTUIPv6)
	}
}

func usesIPv6(p *Peer) bool {
	is6 := func(n netip.Prefix) bool { return n.Addr().Is6() }
	return slices.ContainsFunc(p.Addresses, is6) || slices.ContainsFunc(p.Routes, is6) || p.PeerAddress.Is6()
}

func (c *checker) checkTimes(p *Peer) {
	if p.KeyLifetime == 0 || p.KeyLifetime >= p.RekeyInterval {
		return
	}
	key := "key_lifetime"
	if !c.isGiven(p, key) {
		key = "rekey_interval"
	}
	c.fail(p, key, "key_lifetime (%s) is shorter than rekey_interval (%s)",
		durationText(p.KeyLifetime), durationText(p.RekeyInterval))
}

// checkDials refuses a peer that neither end could reach.
func (c *checker) checkDials(p *Peer) {
	main, d := c.b.docs[0], c.b.origin[p.Name]
	if main.tree == nil || hasElements(main, toml.Key{tableNode, "listen"}) ||
		hasElements(d, toml.Key{tablePeer, p.Name, "endpoints"}) {
		return
	}
	c.fail(p, "endpoints", "missing: without node.listen the peer cannot dial this node either")
}

// hasElements says whether a list is there that is not empty, even if it could not be
// read.
func hasElements(d *document, key toml.Key) bool {
	raw, given := d.lookup(key)
	elements, isList := raw.([]any)
	return given && (!isList || len(elements) > 0)
}
