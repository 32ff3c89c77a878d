package netcfg

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// snapshot is what an interface had before a change. Going back to it, and not step
// by step, also mends what the kernel did on its own: it drops IPv6 from a link whose
// MTU becomes too small, routes with an address, and the source from a route.
type snapshot struct {
	master    int
	mtu       int
	up        bool
	addresses []netlink.Addr
	routes    []netlink.Route
}

func (c *change) snapshot() (snapshot, error) {
	addresses, err := c.m.addresses(c.link)
	if err != nil {
		return snapshot{}, err
	}
	routes, err := c.m.routes(c.index)
	if err != nil {
		return snapshot{}, err
	}
	return snapshot{master: c.master, mtu: c.mtu, up: c.up, addresses: addresses, routes: routes}, nil
}

// rollBack goes back to s from a change that may have added the addresses given. It
// goes as far as it can.
func (c *change) rollBack(s snapshot, added []address) error {
	errs := []error{
		c.setMaster(s.master),
		c.setMTU(s.mtu),
		c.rollBackAddresses(s, added),
		c.rollBackRoutes(s),
	}
	if !s.up && c.up {
		errs = append(errs, c.m.handle.LinkSetDown(c.link))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

func (c *change) rollBackAddresses(s snapshot, added []address) error {
	keep := make([]address, 0, len(s.addresses))
	for _, n := range s.addresses {
		keep = append(keep, fromNetlink(n))
	}
	if err := c.removeAddresses(added, keep); err != nil {
		return err
	}
	present, err := c.m.addresses(c.link)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(s.addresses), func(n netlink.Addr) bool {
		return lists(present, fromNetlink(n))
	})
	return c.putBack(missing)
}

// rollBackRoutes leaves out those that the kernel makes with the addresses.
func (c *change) rollBackRoutes(s snapshot) error {
	present, err := c.m.routes(c.index)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range s.routes {
		if n.Protocol == unix.RTPROT_KERNEL || contains(present, n) {
			continue
		}
		if err := c.m.handle.RouteReplace(&n); err != nil {
			errs = append(errs, fmt.Errorf("put back route %s: %w", n.Dst, err))
		}
	}
	for _, n := range present {
		if n.Protocol == RouteProtocol && !slices.ContainsFunc(s.routes, func(r netlink.Route) bool { return samePlace(r, n) }) {
			errs = append(errs, c.removeRoute(n))
		}
	}
	return errors.Join(errs...)
}

func contains(all []netlink.Route, n netlink.Route) bool {
	return slices.ContainsFunc(all, n.Equal)
}

// samePlace reports whether one of two routes replaces the other.
func samePlace(a, b netlink.Route) bool {
	return fromIPNet(a.Dst) == fromIPNet(b.Dst) && a.Priority == b.Priority && a.Tos == b.Tos
}
