package netcfg

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tund/internal/parts"
)

// route leads through the interface; its far end is the peer, so it needs no gateway.
type route struct {
	to     netip.Prefix
	source netip.Addr // invalid: the kernel chooses
}

// wantedRoutes have as source the first address of their family that the interface has.
func wantedRoutes(s Settings, has []address) []route {
	var all []route
	for _, p := range s.Routes {
		r := route{to: p.Masked()}
		for _, own := range has {
			if own.local.BitLen() == p.Addr().BitLen() {
				r.source = own.local
				break
			}
		}
		all = append(all, r)
	}
	return all
}

func (r route) netlink(index int) *netlink.Route {
	n := &netlink.Route{
		LinkIndex: index, Dst: toIPNet(r.to), Protocol: RouteProtocol,
		Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
	}
	if r.to.Addr().Is4() {
		n.Scope = netlink.SCOPE_LINK // IPv6 knows no scope of a route
	}
	if r.source.IsValid() {
		n.Src = r.source.AsSlice()
	}
	return n
}

// routes lists the routes of the main table that lead through the interface.
func (m *Manager) routes(index int) ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := list(func() ([]netlink.Route, error) {
			return m.lists.RouteListFiltered(family, &netlink.Route{LinkIndex: index}, netlink.RT_FILTER_OIF)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, found...)
	}
	for i := range all {
		all[i].Flags = 0 // linkdown and the like are the kernel's to say
	}
	return all, nil
}

// serves reports whether n does what r is to do, whoever added it: an address brings
// a route of its own, which may be the one that the settings ask for.
func (r route) serves(n netlink.Route) bool {
	return fromIPNet(n.Dst) == r.to && n.Gw == nil && n.Via == nil && n.Type == unix.RTN_UNICAST && n.Tos == 0
}

// current reports whether n is r in all of its parts, or not ours to change.
func (r route) current(n netlink.Route) bool {
	return n.Protocol != RouteProtocol || fromIP(n.Src) == r.source
}

// addRoutes adds what is missing and changes the source where it is another. It returns what could
// not be added.
func (c *change) addRoutes(want []route) (lost parts.List) {
	if len(want) == 0 {
		return nil
	}
	present, err := c.m.routes(c.index)
	if err != nil {
		lost.Add("routes", err)
		return lost
	}
	for _, r := range want {
		i := slices.IndexFunc(present, r.serves)
		switch {
		case i < 0:
			err = c.do(func() error { return c.m.handle.RouteAdd(r.netlink(c.index)) })
		case !r.current(present[i]) && !c.dry:
			err = c.do(func() error { return c.m.handle.RouteReplace(r.netlink(c.index)) })
		default:
			err = nil
		}
		if err != nil {
			lost.Add("route "+r.to.String(), c.explainRoute(r, err))
		}
	}
	return lost
}

// explainRoute names the route that is in the way.
func (c *change) explainRoute(r route, err error) error {
	if !errors.Is(err, unix.EEXIST) {
		return c.explainAddress(r.to.Addr(), err)
	}
	all, listErr := list(func() ([]netlink.Route, error) {
		return c.m.handle.RouteListFiltered(family(r.to), &netlink.Route{Dst: toIPNet(r.to)}, netlink.RT_FILTER_DST)
	})
	if listErr != nil || len(all) == 0 {
		return ErrRouteExists
	}
	return fmt.Errorf("%w: %s", ErrRouteExists, c.describe(all[0]))
}

func family(p netip.Prefix) int {
	if p.Addr().Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// describe prints a route as the ip program does.
func (c *change) describe(n netlink.Route) string {
	text := ""
	if n.Gw != nil {
		text += fmt.Sprintf("via %s ", n.Gw)
	}
	if n.Type != unix.RTN_UNICAST {
		text += "of another type "
	}
	if link, err := c.m.handle.LinkByIndex(n.LinkIndex); err == nil {
		text += fmt.Sprintf("dev %s ", link.Attrs().Name)
	}
	text += fmt.Sprintf("proto %s", n.Protocol)
	if n.Priority > 0 {
		text += fmt.Sprintf(" metric %d", n.Priority)
	}
	return text
}

// removeRoutes removes all routes through the interface that carry our protocol
// number and are not wanted, also those that an earlier run left.
func (c *change) removeRoutes(want []route) {
	if c.dry {
		return
	}
	present, err := c.m.routes(c.index)
	if err != nil {
		c.missing.Add("routes", err)
		return
	}
	for _, n := range present {
		if n.Protocol != RouteProtocol || slices.ContainsFunc(want, func(r route) bool { return r.serves(n) }) {
			continue
		}
		if err := c.do(func() error { return c.m.handle.RouteDel(&n) }); err != nil && !errors.Is(err, unix.ESRCH) {
			c.missing.Add("route "+fromIPNet(n.Dst).String(), fmt.Errorf("remove: %w", err))
		}
	}
}
