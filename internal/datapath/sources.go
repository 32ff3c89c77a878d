package datapath

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"tund/internal/pipe"
)

// The shortest things that are written to a device.
const (
	ipv4Header     = 20
	ipv6Header     = 40
	ethernetHeader = 14
)

// wellFormed says whether payload can be what the mode carries. It looks no deeper
// than the kernel's own entry does.
func wellFormed(mode pipe.Mode, payload []byte) bool {
	if mode == pipe.ModeTAP {
		return len(payload) >= ethernetHeader
	}
	switch {
	case len(payload) < ipv4Header:
		return false
	case payload[0]>>4 == 4:
		return true
	default:
		return payload[0]>>4 == 6 && len(payload) >= ipv6Header
	}
}

// sources is the set of addresses from which inner packets may come: for each IP
// version its networks, sorted and disjoint. The nil set permits everything. A set is
// never changed.
type sources struct {
	v4 []network4
	v6 []network6
}

// network4 is all addresses that are first under the mask.
type network4 struct {
	first, mask uint32
}

// network6 is network4 for IPv6.
type network6 struct {
	first, mask address
}

// address is an IPv6 address as a number.
type address struct {
	high, low uint64
}

func (a address) compare(b address) int {
	return cmp.Or(cmp.Compare(a.high, b.high), cmp.Compare(a.low, b.low))
}

// newSources returns the set of all addresses in the prefixes; nil for none of them.
func newSources(prefixes []netip.Prefix) *sources {
	if len(prefixes) == 0 {
		return nil
	}
	s := &sources{}
	for _, p := range disjoint(prefixes) {
		if p.Addr().Is4() {
			s.v4 = append(s.v4, networkOf4(p))
		} else {
			s.v6 = append(s.v6, networkOf6(p))
		}
	}
	return s
}

// disjoint returns the networks of the prefixes, sorted, without those inside another.
// They overlap in no other way.
func disjoint(prefixes []netip.Prefix) []netip.Prefix {
	all := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		all[i] = p.Masked()
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var kept []netip.Prefix
	for _, p := range all {
		if len(kept) == 0 || !kept[len(kept)-1].Overlaps(p) {
			kept = append(kept, p)
		}
	}
	return kept
}

func networkOf4(p netip.Prefix) network4 {
	b := p.Addr().As4()
	return network4{first: binary.BigEndian.Uint32(b[:]), mask: ^uint32(0) << (32 - p.Bits())}
}

func networkOf6(p netip.Prefix) network6 {
	b := p.Addr().As16()
	const all = ^uint64(0) // shifted by 64 and more it is 0
	return network6{
		first: addressAt(b[:]),
		mask:  address{all << max(0, 64-p.Bits()), all << min(64, 128-p.Bits())},
	}
}

// addressAt reads an IPv6 address.
func addressAt(b []byte) address {
	return address{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// permit says whether a well-formed packet's source address is in the set.
func (s *sources) permit(packet []byte) bool {
	if s == nil {
		return true
	}
	if packet[0]>>4 == 4 {
		return s.permit4(binary.BigEndian.Uint32(packet[12:]))
	}
	return s.permit6(addressAt(packet[8:]))
}

// fewNetworks is how many are looked at one after the other. It is the usual case, and
// faster than a search.
const fewNetworks = 4

func (s *sources) permit4(a uint32) bool {
	near := s.v4
	for len(near) > fewNetworks {
		if half := len(near) / 2; a < near[half].first {
			near = near[:half]
		} else {
			near = near[half:]
		}
	}
	for i := range near {
		if a&near[i].mask == near[i].first {
			return true
		}
	}
	return false
}

func (s *sources) permit6(a address) bool {
	near := s.v6
	for len(near) > fewNetworks {
		if half := len(near) / 2; a.compare(near[half].first) < 0 {
			near = near[:half]
		} else {
			near = near[half:]
		}
	}
	for i := range near {
		if n := &near[i]; a.high&n.mask.high == n.first.high && a.low&n.mask.low == n.first.low {
			return true
		}
	}
	return false
}
