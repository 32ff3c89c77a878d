package invite

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"tund/internal/config"
)

// written are the keys that [New] writes. Any other one in an invitation comes from
// somebody else.
var written = [...]string{
	"public_key", "endpoints", "mode", "addresses", "peer_address", "mtu",
	"preshared_key_file", "rekey_interval", "keepalive", "key_lifetime",
}

// A network of a tunnel is not wider than these.
const (
	narrow4 = 24
	narrow6 = 64
)

// shared is what providers use behind their translation (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// Reach is one way in which an invitation reaches further than a tunnel between two nodes needs.
type Reach struct {
	Key    string // of the peer's table
	Effect string
}

// Reaches returns how far the invitation reaches into this host, whose other interfaces are
// in the given networks. An invitation is input from outside: none of this should
// come into force unless the administrator means it.
func (i *Invite) Reaches(host []netip.Prefix) []Reach {
	var all []Reach
	for _, key := range i.Peer.Changed() {
		if effect := i.effect(key, host); effect != "" {
			all = append(all, Reach{Key: key, Effect: effect})
		}
	}
	return all
}

// effect says what a key does beyond the tunnel; "": nothing.
func (i *Invite) effect(key string, host []netip.Prefix) string {
	p := &i.Peer
	switch key {
	case "routes":
		return fmt.Sprintf("traffic to %s goes to %s", list(p.Routes), p.Name)
	case "allowed_ips":
		return fmt.Sprintf("packets from %s may have source addresses of other networks", p.Name)
	case "bridge":
		return fmt.Sprintf("%s becomes a part of the network of the bridge %s", p.Name, p.Bridge)
	case "interface":
		return fmt.Sprintf("the device has the name %s, which rules of this host may be about", p.Interface)
	case "addresses":
		return reachOf(p.Addresses, host, p.Name)
	case "peer_address":
		return reachOf([]netip.Prefix{netip.PrefixFrom(p.PeerAddress, p.PeerAddress.BitLen())}, host, p.Name)
	case "preshared_key_file":
		if p.PresharedKeyFile == filepath.Join(i.dir, keyFile(p.Name)) {
			return ""
		}
		return "the key is read from " + p.PresharedKeyFile
	}
	if slices.Contains(written[:], key) {
		return ""
	}
	return "tunctl invite does not write this key"
}

// reachOf says what is unusual about a tunnel's addresses.
func reachOf(addresses, host []netip.Prefix, peer string) string {
	var effects []string
	for _, a := range addresses {
		n := a.Masked()
		near := slices.IndexFunc(host, n.Overlaps)
		switch {
		case a.Bits() < narrow6 && a.Addr().Is6(), a.Bits() < narrow4 && a.Addr().Is4():
			effects = append(effects, fmt.Sprintf("%s is wide: traffic to all of %s goes to %s", a, n, peer))
		case !private(a.Addr()):
			effects = append(effects, fmt.Sprintf("%s is not of a private range: it may be somebody else's", a))
		case near >= 0 && !a.Addr().IsLinkLocalUnicast():
			effects = append(effects, fmt.Sprintf("%s is in a network of another interface of this host, %s", a, host[near].Masked()))
		}
	}
	return strings.Join(effects, "; ")
}

func private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || shared.Contains(a)
}

// Allowable are the keys that Reaches may name.
func Allowable() []string {
	all := []string{"addresses", "peer_address", "preshared_key_file"}
	for _, k := range config.Schema() {
		if k.Table == "peer" && !slices.Contains(written[:], k.Name) {
			all = append(all, k.Name)
		}
	}
	slices.Sort(all)
	return all
}

func list(networks []netip.Prefix) string {
	texts := make([]string, len(networks))
	for i, n := range networks {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}
