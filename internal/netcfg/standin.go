package netcfg

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// withoutLoss runs remove, which removes the primary IPv4 address victim, and keeps
// the packets of the addresses that depend on it flowing. With a primary address the
// kernel deletes the secondary ones of the same subnet:
//
//	before     A/24 primary    B/24 secondary             route subnet/24
//	prepare    A/24            B/24            B/32       routes subnet/24, stand-in
//	remove                                     B/32       route stand-in
//	repair     B/24 primary                    B/32       routes subnet/24, stand-in
//	clean up   B/24 primary                               route subnet/24
//
// B is an address of this machine at each moment, so nothing sent to it is refused,
// and there is always a route to the subnet. The addresses in keep get a stand-in
// too, but are not put back. IPv6 knows no such dependence.
func (c *change) withoutLoss(victim netlink.Addr, keep []netip.Addr, remove func() error) error {
	if fromNetlink(victim).local.Is6() {
		return remove()
	}
	dependent, err := c.dependents(victim)
	if err != nil {
		return err
	}
	for _, n := range dependent {
		keep = append(keep, fromNetlink(n).local)
	}
	cleanUp, err := c.standIn(fromNetlink(victim).network.Masked(), keep)
	if err != nil {
		return errors.Join(err, cleanUp())
	}
	if err := remove(); err != nil {
		return errors.Join(err, cleanUp())
	}
	return errors.Join(c.putBack(dependent), cleanUp())
}

// dependents lists the addresses that vanish with victim.
func (c *change) dependents(victim netlink.Addr) ([]netlink.Addr, error) {
	if victim.Flags&unix.IFA_F_SECONDARY != 0 {
		return nil, nil
	}
	present, err := c.m.addresses(c.link)
	if err != nil {
		return nil, err
	}
	subnet := fromNetlink(victim).network.Masked()
	return slices.DeleteFunc(present, func(n netlink.Addr) bool {
		return n.Flags&unix.IFA_F_SECONDARY == 0 || fromNetlink(n).network.Masked() != subnet
	}), nil
}

// standIn adds a host address for each of keep, and a route to the subnet that is
// used while there is no better one. The function returned takes back what was added.
func (c *change) standIn(subnet netip.Prefix, keep []netip.Addr) (cleanUp func() error, err error) {
	var undo []func() error
	cleanUp = func() error {
		var errs []error
		for _, f := range slices.Backward(undo) {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	for _, ip := range keep {
		host := address{local: ip, network: netip.PrefixFrom(ip, ip.BitLen())}
		switch err := c.m.handle.AddrAdd(c.link, host.netlink()); {
		case err == nil:
			undo = append(undo, func() error { return c.m.handle.AddrDel(c.link, host.netlink()) })
		case !errors.Is(err, unix.EEXIST):
			return cleanUp, fmt.Errorf("add stand-in %s: %w", host, err)
		}
	}
	if len(keep) == 0 || !c.up || subnet.IsSingleIP() {
		return cleanUp, nil
	}
	const last = 1<<32 - 1 // the metric of what is used only if nothing else is there
	way := route{to: subnet, source: keep[0]}.netlink(c.index)
	way.Priority = last
	if err := c.m.handle.RouteReplace(way); err != nil {
		return cleanUp, fmt.Errorf("add stand-in route %s: %w", subnet, err)
	}
	undo = append(undo, func() error { return c.m.handle.RouteDel(way) })
	return cleanUp, nil
}

// putBack adds the addresses again, if the kernel has not promoted them.
func (c *change) putBack(all []netlink.Addr) error {
	var errs []error
	for _, n := range all {
		if err := c.m.handle.AddrAdd(c.link, again(n)); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("put back address %s: %w", fromNetlink(n), err))
		}
	}
	return errors.Join(errs...)
}
