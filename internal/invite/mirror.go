package invite

import (
	"fmt"
	"net/netip"
	"slices"

	"tund/internal/config"
	"tund/internal/keys"
)

// Options say what the inviting node's configuration does not.
type Options struct {
	Name      string            // what the other side shall call this node
	Endpoints []config.Endpoint // where the other side may dial this node
	// Addresses of the other side, in place of those that follow from ours.
	Addresses []netip.Prefix
}

// New makes the invitation that the node with this public key gives to one of its
// peers. Errors are about the addresses in o.
func New(node keys.PublicKey, peer *config.Peer, o Options) (*Invite, error) {
	if err := checkAddresses(peer, o.Addresses); err != nil {
		return nil, err
	}
	i := &Invite{For: peer.PublicKey, Peer: config.DefaultPeer()}
	i.Peer.Name, i.Peer.PublicKey, i.Peer.Endpoints = o.Name, node, o.Endpoints
	i.Peer.Mode, i.Peer.MTU, i.Peer.Keepalive = peer.Mode, peer.MTU, peer.Keepalive
	i.Peer.RekeyInterval, i.Peer.KeyLifetime = peer.RekeyInterval, peer.KeyLifetime
	i.mirrorAddresses(peer, o.Addresses)
	i.addNotes(peer)
	if peer.PresharedKeyFile != "" {
		i.Peer.PresharedKeyFile = keyFile(o.Name)
	}
	return i, nil
}

// checkAddresses refuses addresses for the other side that contradict ours.
func checkAddresses(peer *config.Peer, given []netip.Prefix) error {
	for _, g := range given {
		switch {
		case peer.PeerAddress.IsValid() && peer.PeerAddress.Is4() == g.Addr().Is4() && peer.PeerAddress != g.Addr():
			return fmt.Errorf("address %s: peer.%s.peer_address is %s", g, peer.Name, peer.PeerAddress)
		case slices.ContainsFunc(peer.Addresses, func(own netip.Prefix) bool { return own.Addr() == g.Addr() }):
			return fmt.Errorf("address %s: is this node's own", g)
		}
	}
	return nil
}

// mirrorAddresses fills in the other side's addresses: those given, and for each of
// our networks that none of these is in, what follows from our address.
func (i *Invite) mirrorAddresses(peer *config.Peer, given []netip.Prefix) {
	i.Peer.Addresses = slices.Clone(given)
	for _, own := range peer.Addresses {
		if own.Addr().Is4() == peer.PeerAddress.Is4() && peer.PeerAddress.IsValid() {
			i.Peer.PeerAddress = own.Addr()
		}
		if slices.ContainsFunc(given, func(g netip.Prefix) bool { return answers(own, peer, g.Addr()) }) {
			continue
		}
		if other, ok := counterpart(own, peer.PeerAddress); ok {
			i.Peer.Addresses = append(i.Peer.Addresses, other)
			continue
		}
		i.Unanswered = append(i.Unanswered, own)
		i.note("%s has %s here, which does not tell this node's own address: add it to addresses, with its length.", i.Peer.Name, own)
	}
}

// answers says whether an address is the other side's beside our own.
func answers(own netip.Prefix, peer *config.Peer, given netip.Addr) bool {
	return own.Masked().Contains(given) || given == peer.PeerAddress
}

// counterpart returns the address that the other end of a tunnel has beside ours: the
// peer's, if it is known, or the only other one in a network for two.
func counterpart(own netip.Prefix, peer netip.Addr) (netip.Prefix, bool) {
	addr, bits := own.Addr(), own.Bits()
	if peer.IsValid() && peer.Is4() == addr.Is4() {
		return netip.PrefixFrom(peer, bits), true
	}
	first := own.Masked().Addr()
	switch bits {
	case addr.BitLen() - 1: // RFC 3021, RFC 6164: both are hosts
	case addr.BitLen() - 2:
		if addr.Is6() { // four hosts: nothing follows
			return netip.Prefix{}, false
		}
		first = first.Next() // the network itself, two hosts, broadcast
	default:
		return netip.Prefix{}, false
	}
	switch addr {
	case first:
		return netip.PrefixFrom(first.Next(), bits), true
	case first.Next():
		return netip.PrefixFrom(first, bits), true
	}
	return netip.Prefix{}, false
}

// addNotes tells the reader what the table cannot hold.
func (i *Invite) addNotes(peer *config.Peer) {
	if len(i.Peer.Endpoints) == 0 && len(peer.Endpoints) > 0 {
		i.note("%s dials this node, at %s.", i.Peer.Name, peer.Endpoints[0])
	}
	if peer.Bridge != "" {
		i.note("%s's device is a port of a bridge; for the same here add: bridge = \"NAME\"", i.Peer.Name)
	}
	if peer.PresharedKeyFile != "" {
		i.note("The pre-shared key comes in a file of its own: tunctl join FILE --psk KEYFILE")
	}
}

func (i *Invite) note(format string, args ...any) {
	i.Notes = append(i.Notes, fmt.Sprintf(format, args...))
}
