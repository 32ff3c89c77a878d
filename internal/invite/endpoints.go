package invite

import (
	"net/netip"
	"slices"

	"tund/internal/config"
)

// Endpoints returns where a node that listens at these addresses may be dialled. A
// listener on all addresses stands for those of the host. Addresses that no other host
// can reach are left out.
func Endpoints(listen []netip.AddrPort, host []netip.Addr) []config.Endpoint {
	var all []config.Endpoint
	add := func(addr netip.Addr, port uint16) {
		e := config.Endpoint{Host: addr.String(), Port: port}
		if !addr.IsLoopback() && !addr.IsLinkLocalUnicast() && !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	for _, l := range listen {
		if !l.Addr().IsUnspecified() {
			add(l.Addr(), l.Port())
			continue
		}
		for _, addr := range host {
			if addr.Is4() || l.Addr().Is6() {
				add(addr, l.Port())
			}
		}
	}
	return all
}
