package netcfg

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// passing marks addresses that other hosts should not be told: they do not last, or
// cannot be used.
const passing = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED

// HostAddresses returns the addresses at which other hosts may reach this one, public
// ones first. They are those of the interfaces that lead to the world at large or, where
// none does, of all that are up. The interfaces named in except do not count.
func (m *Manager) HostAddresses(except []string) ([]netip.Addr, error) {
	links, err := m.handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := m.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	outward := m.outward()
	var first, others []netip.Addr
	for _, link := range links {
		a := link.Attrs()
		switch {
		case a.RawFlags&unix.IFF_UP == 0 || slices.Contains(except, a.Name):
		case slices.Contains(outward, a.Index):
			first = append(first, addressesOn(a.Index, addrs)...)
		default:
			others = append(others, addressesOn(a.Index, addrs)...)
		}
	}
	if len(first) == 0 {
		first = others
	}
	slices.SortStableFunc(first, func(a, b netip.Addr) int { return cmp.Compare(rank(a), rank(b)) })
	return first, nil
}

// outward returns the interfaces through which the kernel would send to strangers,
// which addresses of documentation stand for (RFC 5737, RFC 3849). Nothing is sent.
func (m *Manager) outward() []int {
	var indices []int
	for _, stranger := range []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")} {
		routes, err := m.handle.RouteGet(stranger.AsSlice())
		if err != nil {
			continue // there is no such route
		}
		for i := range routes {
			indices = append(indices, routes[i].LinkIndex)
		}
	}
	return indices
}

// addressesOn returns the addresses of one interface that can be told to others.
func addressesOn(index int, all []netlink.Addr) []netip.Addr {
	var found []netip.Addr
	for i := range all {
		addr := fromIPNet(all[i].IPNet).Addr()
		if all[i].LinkIndex == index && all[i].Flags&passing == 0 && addr.IsGlobalUnicast() {
			found = append(found, addr)
		}
	}
	return found
}

// rank puts public addresses before private ones, and IPv4, which more networks have,
// before IPv6.
func rank(a netip.Addr) int {
	n := 0
	if a.IsPrivate() {
		n += 2
	}
	if a.Is6() {
		n++
	}
	return n
}
