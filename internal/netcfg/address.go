package netcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// address is an address as the kernel tells addresses apart: its network is that of
// the peer on a point-to-point address, else its own. The host bits are kept.
type address struct {
	local   netip.Addr
	network netip.Prefix
}

// String returns the address as the ip program takes it.
func (a address) String() string {
	if a.network.Addr() == a.local {
		return a.network.String()
	}
	return fmt.Sprintf("%s peer %s", a.local, a.network)
}

// wantedAddresses are the addresses of s; an error is about the peer address alone.
func wantedAddresses(s Settings) (all []address, err error) {
	peer := s.PeerAddress.Unmap()
	for _, p := range s.Addresses {
		a := address{local: p.Addr(), network: p}
		if peer.IsValid() && peer.BitLen() == p.Addr().BitLen() {
			a.network = peerNetwork(p, peer)
			peer = netip.Addr{}
		}
		all = append(all, a)
	}
	if peer.IsValid() {
		return all, errors.New("no address of its family")
	}
	return all, nil
}

func peerNetwork(own netip.Prefix, peer netip.Addr) netip.Prefix {
	if own.Contains(peer) {
		return netip.PrefixFrom(peer, own.Bits())
	}
	return netip.PrefixFrom(peer, peer.BitLen())
}

func fromNetlink(n netlink.Addr) address {
	a := address{network: fromIPNet(n.IPNet)}
	a.local = a.network.Addr()
	if n.Peer != nil {
		a.network = fromIPNet(n.Peer)
	}
	return a
}

// netlink returns a fresh value, as the library writes into it. Without NODAD a TAP's
// IPv6 address could not be used for a second.
func (a address) netlink() *netlink.Addr {
	n := &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(a.local, a.network.Bits()))}
	if a.network.Addr() != a.local {
		n.Peer = toIPNet(a.network)
	}
	if a.local.Is6() {
		n.Flags = unix.IFA_F_NODAD
	} else {
		n.Broadcast = net.IPv4zero // none, as the ip program does
	}
	return n
}

func (m *Manager) addresses(link netlink.Link) ([]netlink.Addr, error) {
	all, err := list(func() ([]netlink.Addr, error) { return m.lists.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return all, nil
}

func lists(all []netlink.Addr, a address) bool {
	return slices.ContainsFunc(all, func(n netlink.Addr) bool { return fromNetlink(n) == a })
}

// addAddresses adds what is missing, and returns what is there then. Packets can be sent to all
// of it.
func (c *change) addAddresses(want []address) (has []address) {
	if len(want) == 0 {
		return nil
	}
	present, err := c.m.addresses(c.link)
	if err != nil {
		c.missing.Add("addresses", err)
		return nil
	}
	var added []address
	for _, a := range want {
		if lists(present, a) {
			has = append(has, a)
			continue
		}
		if err := c.do(func() error { return c.addAddress(a, present) }); err != nil {
			c.missing.Add("address "+a.String(), c.explainAddress(a.local, err))
			continue
		}
		added = append(added, a)
		has = append(has, a)
	}
	c.awaitLocal(added)
	return has
}

// How long, and how often, a new IPv6 address is looked at until it is in use.
const (
	localLimit = time.Second
	localPoll  = time.Millisecond
)

// awaitLocal waits until the kernel takes packets to new addresses. A worker makes an IPv6
// address known to the routes, some time after the address is listed (addrconf_dad_work in
// net/ipv6/addrconf.c), without which they are refused. Where routes are not what they are elsewhere,
// it gives up waiting.
func (c *change) awaitLocal(added []address) {
	end := time.NewTimer(localLimit)
	defer end.Stop()
	look := time.NewTicker(localPoll)
	defer look.Stop()
	for _, a := range added {
		for a.local.Is6() && !c.isLocal(a.local) {
			select {
			case <-look.C:
			case <-end.C:
				return
			}
		}
	}
}

// isLocal tells whether a packet to an address of the interface stays on this machine.
func (c *change) isLocal(a netip.Addr) bool {
	routes, err := c.m.handle.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{OifIndex: c.index})
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

// addAddress replaces an address that differs in nothing but its network, if the
// kernel does not let the two stand side by side.
func (c *change) addAddress(a address, present []netlink.Addr) error {
	err := c.m.handle.AddrAdd(c.link, a.netlink())
	if errors.Is(err, unix.EEXIST) {
		for _, n := range present {
			if other := fromNetlink(n); other.local == a.local && other != a {
				return c.replaceAddress(n, a)
			}
		}
	}
	return err
}

func (c *change) replaceAddress(old netlink.Addr, a address) error {
	return c.withoutLoss(old, []netip.Addr{a.local}, func() error {
		if err := c.deleteAddress(old); err != nil {
			return err
		}
		return c.m.handle.AddrAdd(c.link, a.netlink())
	})
}

// explainAddress turns the kernel's ways to say that there is no IPv6 into words.
func (c *change) explainAddress(local netip.Addr, err error) error {
	if !local.Is6() {
		return err
	}
	switch {
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w on the interface (sysctl net.ipv6.conf.%s.disable_ipv6)", ErrNoIPv6, c.name)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w in the kernel", ErrNoIPv6)
	case errors.Is(err, unix.EINVAL) && c.mtu < minimumIPv6MTU:
		return smallMTU(c.mtu)
	}
	return err
}

// removeAddresses removes what was ours and is wanted no more, secondary addresses
// first: so none of them is put back only to be removed. It reports whether there was any.
func (c *change) removeAddresses(was, want []address) bool {
	gone := slices.DeleteFunc(slices.Clone(was), func(a address) bool { return slices.Contains(want, a) })
	if len(gone) == 0 || c.dry {
		return false
	}
	present, err := c.m.addresses(c.link)
	if err != nil {
		c.missing.Add("addresses", err)
		c.stuck = gone
		return false
	}
	doomed := slices.DeleteFunc(present, func(n netlink.Addr) bool { return !slices.Contains(gone, fromNetlink(n)) })
	slices.SortStableFunc(doomed, func(a, b netlink.Addr) int {
		return b.Flags&unix.IFA_F_SECONDARY - a.Flags&unix.IFA_F_SECONDARY
	})
	for _, n := range doomed {
		a := fromNetlink(n)
		if err := c.do(func() error { return c.removeAddress(n) }); err != nil {
			c.missing.Add("address "+a.String(), fmt.Errorf("remove: %w", err))
			c.stuck = append(c.stuck, a)
		}
	}
	return len(doomed) > 0
}

func (c *change) removeAddress(n netlink.Addr) error {
	return c.withoutLoss(n, nil, func() error { return c.deleteAddress(n) })
}

// deleteAddress is content if somebody else was faster.
func (c *change) deleteAddress(n netlink.Addr) error {
	err := c.m.handle.AddrDel(c.link, again(n))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

// again returns a copy of a listed address that can be given to the kernel.
func again(n netlink.Addr) *netlink.Addr {
	n.Flags &^= unix.IFA_F_SECONDARY | unix.IFA_F_PERMANENT | unix.IFA_F_TENTATIVE | unix.IFA_F_DEPRECATED
	if fromNetlink(n).local.Is6() {
		n.Flags |= unix.IFA_F_NODAD
	} else if n.Broadcast == nil {
		n.Broadcast = net.IPv4zero
	}
	return &n
}
