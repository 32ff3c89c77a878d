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
// version the ranges of the permitted prefixes, sorted and disjoint. The nil set
// permits everything. A set is never changed.
type sources struct {
	v4, v6 []span
}

// span is a range of addresses, both ends included.
type span struct {
	first, last address
}

// address is an IPv6 address as a number. An IPv4 address is in low.
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
	for _, p := range prefixes {
		if p.Addr().Is4() {
			s.v4 = append(s.v4, spanOf(p))
		} else {
			s.v6 = append(s.v6, spanOf(p))
		}
	}
	s.v4, s.v6 = disjoint(s.v4), disjoint(s.v6)
	return s
}

func spanOf(p netip.Prefix) span {
	host := p.Addr().BitLen() - p.Bits() // bits that are free
	mask := address{low: 1<<host - 1}    // shifts beyond 63 give 0 - 1: all ones
	if host > 64 {
		mask.high = 1<<(host-64) - 1
	}
	var a address
	if p.Addr().Is4() {
		b := p.Addr().As4()
		a.low = uint64(binary.BigEndian.Uint32(b[:]))
	} else {
		b := p.Addr().As16()
		a = addressAt(b[:])
	}
	return span{
		first: address{a.high &^ mask.high, a.low &^ mask.low},
		last:  address{a.high | mask.high, a.low | mask.low},
	}
}

// addressAt reads an IPv6 address.
func addressAt(b []byte) address {
	return address{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// disjoint sorts spans and leaves out those inside another. Prefixes overlap in no
// other way.
func disjoint(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(a.first.compare(b.first), b.last.compare(a.last))
	})
	var kept []span
	for _, s := range spans {
		if len(kept) == 0 || s.first.compare(kept[len(kept)-1].last) > 0 {
			kept = append(kept, s)
		}
	}
	return kept
}

// permit says whether a well-formed packet's source address is in the set.
func (s *sources) permit(packet []byte) bool {
	if s == nil {
		return true
	}
	if packet[0]>>4 == 4 {
		return within(s.v4, address{low: uint64(binary.BigEndian.Uint32(packet[12:]))})
	}
	return within(s.v6, addressAt(packet[8:]))
}

// within finds a in sorted, disjoint spans.
func within(spans []span, a address) bool {
	low, high := 0, len(spans)
	for low < high {
		middle := (low + high) / 2
		switch {
		case a.compare(spans[middle].first) < 0:
			high = middle
		case a.compare(spans[middle].last) > 0:
			low = middle + 1
		default:
			return true
		}
	}
	return false
}
