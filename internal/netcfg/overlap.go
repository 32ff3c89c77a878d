package netcfg

import (
	"fmt"
	"net/netip"

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
	for _, a := range all {
		for _, b := range all {
			if a.iface == b.iface || !ours[a.iface] && !ours[b.iface] {
				continue
			}
			for _, text := range a.within(b) {
				for _, iface := range []string{a.iface, b.iface} {
					if ours[iface] {
						found[iface] = append(found[iface], text)
					}
				}
			}
		}
	}
	return found, nil
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

// within tells which addresses of a lie in the network of b.
func (a located) within(b located) []string {
	if b.network.IsSingleIP() || b.local.IsLinkLocalUnicast() {
		return nil
	}
	inside := []netip.Addr{}
	if borrowed := a.local == b.local && a.network.IsSingleIP(); !borrowed {
		inside = append(inside, a.local)
	}
	if far := a.network.Addr(); far != a.local {
		inside = append(inside, far)
	}
	var texts []string
	for _, addr := range inside {
		if b.network.Contains(addr) {
			texts = append(texts, fmt.Sprintf("%s of %s lies in %s, the network of %s", addr, a.iface, b.network.Masked(), b.iface))
		}
	}
	return texts
}
