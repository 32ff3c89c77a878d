package peer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// sources is what the peer knows of the source addresses that its child accepts.
type sources struct {
	networks  []netip.Prefix // none: any
	byDefault bool           // they follow from addresses and routes: no one has chosen them
	dropped   bool           // the child has dropped packets because of it
}

// accept returns the networks that the child shall accept inner packets from. The log says
// which follow from the addresses and routes: the configuration does not show them.
func (p *Peer) accept() []netip.Prefix {
	networks, byDefault := p.cfg.InnerSources()
	now, before := sources{networks: networks, byDefault: byDefault}, p.sources
	if now.byDefault == before.byDefault && slices.Equal(now.networks, before.networks) {
		return networks
	}
	p.sources = now
	if byDefault {
		p.log.Info("inner sources follow from addresses and routes", "networks", networkList(networks))
	}
	return networks
}

// reviewSources warns when packets are dropped for a reason that nobody has configured.
func (p *Peer) reviewSources(before, now uint64) {
	if !p.sources.byDefault || p.sources.dropped || now <= before {
		return
	}
	p.sources.dropped = true
	p.log.Warn("inner packets dropped by their source",
		"networks", networkList(p.sources.networks), "reason", "allowed_ips is not set")
}

// warning is what status says of it; "": nothing.
func (s sources) warning() string {
	if !s.dropped {
		return ""
	}
	return fmt.Sprintf("dropped packets whose source is not in %s: add their networks to routes, or set allowed_ips",
		networkList(s.networks))
}

// networkList is a list of networks for people; its length is bounded.
func networkList(networks []netip.Prefix) string {
	const most = 10
	var parts []string
	for _, n := range networks[:min(len(networks), most)] {
		parts = append(parts, n.String())
	}
	if more := len(networks) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}
