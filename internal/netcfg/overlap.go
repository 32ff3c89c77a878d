package netcfg

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// located is an address and the network that its interface is connected to by it.
type located struct {
	address
	iface string
}

// Overlaps lists, for each interface of own, what an administrator should look at: an address, of it or of
// its peer, that lies in the network of another interface, of this machine or of own, and the other
// way round. Packets of the two may go a way that nobody has thought of. It is no mistake in every case, as
// with proxy ARP; an address that the other interface has too is borrowed, as on unnumbered links, and
// not listed. Nor is what is link-local.
func (m *Manager) Overlaps(own []Settings) (map[string][]string, error) {
	all, err := m.located(own)
	if err != nil {
		return nil, err
	}
	ours := make(map[string]bool)
	for _, s := range own {
		ours[s.Interface] = true
	}
	found := make(map[string][]string)
	index := indexed(all)
	for _, a := range all {
		for _, hit := range index.hits(a) {
			for _, iface := range []string{a.iface, hit.iface} {
				if ours[iface] {
					found[iface] = append(found[iface], hit.text)
				}
			}
		}
	}
	for iface, texts := range found {
		slices.Sort(texts)
		found[iface] = slices.Compact(texts)
	}
	return found, nil
}

// index finds networks by what they are, since there may be thousands.
type index struct {
	lengths map[int]bool
	by      map[netip.Prefix][]located
}

func indexed(all []located) index {
	x := index{map[int]bool{}, map[netip.Prefix][]located{}}
	for _, a := range all {
		if n := a.network.Masked(); !n.IsSingleIP() && !n.Addr().IsLinkLocalUnicast() {
			x.lengths[n.Bits()] = true
			x.by[n] = append(x.by[n], a)
		}
	}
	return x
}

// around lists whose networks addr lies in.
func (x index) around(addr netip.Addr) []located {
	var found []located
	for bits := range x.lengths {
		if n, err := addr.Prefix(bits); err == nil { // else it is a length of the other family
			found = append(found, x.by[n]...)
		}
	}
	return found
}

// located lists the addresses of own as they are wanted, and those of all other interfaces.
func (m *Manager) located(own []Settings) ([]located, error) {
	var all []located
	skip := make(map[string]bool)
	for _, s := range own {
		skip[s.Interface] = true
		want, _ := wantedAddresses(s)
		for _, a := range want {
			all = append(all, located{a, s.Interface})
		}
	}
	links, err := list(m.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	present, err := list(func() ([]netlink.Addr, error) { return m.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, n := range present {
		if name := names[n.LinkIndex]; name != "" && !skip[name] {
			all = append(all, located{fromNetlink(n), name})
		}
	}
	return all, nil
}

// hit is an address in the network of another interface.
type hit struct{ iface, text string }

// hits lists the interfaces whose networks a's addresses lie in.
func (x index) hits(a located) (all []hit) {
	for _, addr := range a.addresses() {
		for _, b := range x.around(addr) {
			if a.iface == b.iface || a.borrows(addr, b) {
				continue
			}
			text := fmt.Sprintf("%s of %s lies in %s, the network of %s", addr, a.iface, b.network.Masked(), b.iface)
			all = append(all, hit{b.iface, text})
		}
	}
	return all
}

// addresses are the own one and, on a point-to-point address, the peer's.
func (a located) addresses() []netip.Addr {
	if far := a.network.Addr(); far != a.local {
		return []netip.Addr{a.local, far}
	}
	return []netip.Addr{a.local}
}

// borrows reports whether addr is of b too, and a claims no network by it.
func (a located) borrows(addr netip.Addr, b located) bool {
	return addr == a.local && addr == b.local && a.network.IsSingleIP()
}
