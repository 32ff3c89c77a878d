package netcfg

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// change is one transaction on one interface. The Manager's lock is held over its life.
type change struct {
	m      *Manager
	link   netlink.Link
	name   string
	index  int
	master int // of the bridge, 0: none
	mtu    int
	up     bool
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

// run takes the steps in order until one fails.
func run(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// setBridge makes the interface a port of the bridge wanted. If none is wanted it
// leaves the bridge old, and no other.
func (c *change) setBridge(old, wanted string) error {
	target, err := c.findBridge(old, wanted)
	if err != nil {
		return err
	}
	return c.setMaster(target)
}

func (c *change) setMaster(target int) error {
	if target == c.master {
		return nil
	}
	if err := c.m.handle.LinkSetMasterByIndex(c.link, target); err != nil {
		return fmt.Errorf("change bridge: %w", err)
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
		return 0, fmt.Errorf("join bridge %s: %w", name, ErrNoBridge)
	case err != nil:
		return 0, fmt.Errorf("look up bridge %s: %w", name, err)
	case wanted == "" && bridge.Attrs().Index == c.master:
		return 0, nil
	case wanted == "":
		return c.master, nil // somebody else has moved it
	}
	return bridge.Attrs().Index, c.checkBridge(bridge)
}

func (c *change) checkBridge(bridge netlink.Link) error {
	name := bridge.Attrs().Name
	if bridge.Type() != "bridge" {
		return fmt.Errorf("join bridge %s: it is not a bridge but of kind %s", name, bridge.Type())
	}
	if c.link.Attrs().EncapType != "ether" {
		return fmt.Errorf("join bridge %s: the interface carries packets, not frames (mode tap is needed)", name)
	}
	return nil
}

// checkMTU keeps from a change that would take all IPv6 from the interface first.
func (c *change) checkMTU(mtu int, want []address) error {
	if mtu == 0 {
		mtu = c.mtu
	}
	for _, a := range want {
		if a.local.Is6() && mtu < minimumIPv6MTU {
			return fmt.Errorf("add address %s: %w", a, smallMTU(mtu))
		}
	}
	return nil
}

// minimumIPv6MTU is of RFC 8200, section 5; the kernel takes IPv6 from smaller links.
const minimumIPv6MTU = 1280

func smallMTU(mtu int) error {
	return fmt.Errorf("%w on an interface with an MTU below %d, and it is %d", ErrNoIPv6, minimumIPv6MTU, mtu)
}

func (c *change) setMTU(mtu int) error {
	if mtu == 0 || mtu == c.mtu {
		return nil
	}
	if err := c.m.handle.LinkSetMTU(c.link, mtu); err != nil {
		return fmt.Errorf("set MTU %d: %w", mtu, explainMTU(err))
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

func (c *change) setUp() error {
	if c.up {
		return nil
	}
	if err := c.m.handle.LinkSetUp(c.link); err != nil {
		return fmt.Errorf("set the link up: %w", err)
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
