package config

import (
	"net/netip"
	"slices"
)

// anySource is the element of allowed_ips that stands for every source address.
const anySource = "any"

// Allowed is the value of allowed_ips. Zero is the default: the networks of the peer.
type Allowed struct {
	Any      bool           // no source address is refused; Networks is empty then
	Networks []netip.Prefix // these and no others
}

// linkSources are the source addresses of IPv6's own messages on a link: neighbour
// discovery, multicast groups, routing protocols. No router forwards them.
func linkSources() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("::/128"), netip.MustParsePrefix("fe80::/10")}
}

// InnerSources returns the networks that inner packets of the peer may come from; none
// means any. byDefault says that they follow from addresses, peer_address and routes.
func (p *Peer) InnerSources() (networks []netip.Prefix, byDefault bool) {
	switch {
	case p.Mode == ModeTAP, p.AllowedIPs.Any:
		return nil, false
	case len(p.AllowedIPs.Networks) > 0:
		return slices.Clone(p.AllowedIPs.Networks), false
	}
	for _, c := range connectedNetworks(p) {
		networks = append(networks, c.network)
	}
	return append(append(networks, p.Routes...), linkSources()...), true
}

// allowed reads allowed_ips.
func (v value) allowed() Allowed {
	elements, _ := v.raw.([]any)
	if !slices.Contains(elements, any(anySource)) {
		return Allowed{Networks: list(v, parseNetwork)}
	}
	if len(elements) > 1 {
		v.fail("%q stands alone: it allows every source address", anySource)
	}
	return Allowed{Any: true}
}

func (a Allowed) text() string {
	if a.Any {
		return "[" + quote(anySource) + "]"
	}
	return quoteList(a.Networks)
}
