package netcfg

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tund/internal/parts"
)

// change is one look at one interface, and what is done to it. The Manager's lock is held over
// its life.
type change struct {
	m      *Manager
	link   netlink.Link
	name   string
	index  int
	master int // of the bridge, 0: none
	mtu    int
	up     bool

	dry     bool // nothing is done: what would be is missing
	keepMTU bool // it is not looked at
	done    int  // how often something had to be done
	missing parts.List
	stuck   []address // that should go and could not
}

// do changes something, unless this is only a look.
func (c *change) do(f func() error) error {
	if c.dry {
		return ErrTaken
	}
	err := f()
	if err == nil {
		c.done++
	}
	return err
}

func (m *Manager) begin(iface string) (*change, error) {
	link, err := m.handle.LinkByName(iface)
	if isAbsent(err) {
		return nil, ErrNoInterface
	}
	if err != nil {
		return nil, fmt.Errorf("look up the interface: %w", err)
	}
	attrs := link.Attrs()
	return &change{
		m: m, link: link, name: iface, index: attrs.Index, master: attrs.MasterIndex, mtu: attrs.MTU,
		up: attrs.Flags&net.FlagUp != 0,
	}, nil
}

func isAbsent(err error) bool {
	_, absent := errors.AsType[netlink.LinkNotFoundError](err)
	return absent
}

// setBridge makes the interface a port of the bridge wanted. If none is wanted it
// leaves the bridge old, and no other.
func (c *change) setBridge(old, wanted string) error {
	target, err := c.findBridge(old, wanted)
	if err == nil {
		return c.setMaster(target)
	}
	if home, lookErr := c.findBridge(old, ""); wanted != "" && old != wanted && lookErr == nil {
		_ = c.setMaster(home) // what is wanted now is not the old bridge
	}
	return err
}

func (c *change) setMaster(target int) error {
	if target == c.master {
		return nil
	}
	if err := c.do(func() error { return c.m.handle.LinkSetMasterByIndex(c.link, target) }); err != nil {
		return err
	}
	c.master = target
	return nil
}

// findBridge returns the index of the master that the interface should have.
func (c *change) findBridge(old, wanted string) (int, error) {
	name := wanted
	if name == "" {
		name = old
	}
	if name == "" {
		return c.master, nil
	}
	bridge, err := c.m.handle.LinkByName(name)
	switch {
	case isAbsent(err) && wanted == "":
		return c.master, nil // it left when the bridge was removed
	case isAbsent(err):
		return 0, ErrNoBridge
	case err != nil:
		return 0, fmt.Errorf("look up: %w", err)
	case wanted == "" && bridge.Attrs().Index == c.master:
		return 0, nil
	case wanted == "":
		return c.master, nil // somebody else has moved it
	}
	return bridge.Attrs().Index, c.checkBridge(bridge)
}

func (c *change) checkBridge(bridge netlink.Link) error {
	if bridge.Type() != "bridge" {
		return fmt.Errorf("it is not a bridge but of kind %s", bridge.Type())
	}
	if c.link.Attrs().EncapType != "ether" {
		return errors.New("the interface carries packets, not frames (mode tap is needed)")
	}
	return nil
}

// minimumIPv6MTU is of RFC 8200, section 5; the kernel takes IPv6 from smaller links.
const minimumIPv6MTU = 1280

func smallMTU(mtu int) error {
	return fmt.Errorf("%w on an interface with an MTU below %d, and it is %d", ErrNoIPv6, minimumIPv6MTU, mtu)
}

// setMTU keeps the MTU where a smaller one would take all IPv6 from the interface.
func (c *change) setMTU(mtu int, want []address) error {
	if mtu == 0 || mtu == c.mtu || c.keepMTU {
		return nil
	}
	if mtu < minimumIPv6MTU && slices.ContainsFunc(want, func(a address) bool { return a.local.Is6() }) {
		return smallMTU(mtu)
	}
	if err := c.do(func() error { return c.m.handle.LinkSetMTU(c.link, mtu) }); err != nil {
		return explainMTU(err)
	}
	c.mtu = mtu
	return nil
}

func explainMTU(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("outside of what the device takes: %w", err)
	}
	return err
}

func (c *change) setUp(raised bool) error {
	if c.up {
		return nil
	}
	if raised {
		return ErrDown
	}
	if err := c.do(func() error { return c.m.handle.LinkSetUp(c.link) }); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	c.up = true
	return nil
}

// list repeats a listing that another change has interrupted.
func list[T any](f func() ([]T, error)) ([]T, error) {
	const attempts = 10 // changes are rarer than listings are long
	var all []T
	var err error
	for range attempts {
		if all, err = f(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
