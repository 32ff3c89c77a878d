package netcfg

import (
	"net"
	"net/netip"
)

// This file is the border to package netlink, whose addresses are slices: IPv4 stands in 4 bytes,
// or in 16 as in the destination of a default route. Nothing else here makes addresses of
// them.

// fromIP reads an address; it is not valid where there is none.
func fromIP(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// fromIPNet reads a network, whose mask tells its family. The host bits are kept.
func fromIPNet(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ones, bits := n.Mask.Size()
	addr, _ := netip.AddrFromSlice(n.IP)
	if bits == 8*net.IPv4len {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones)
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
