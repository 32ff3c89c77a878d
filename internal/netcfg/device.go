package netcfg

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"tund/internal/parts"
)

// device is what is known of one interface that has been given settings.
type device struct {
	wanted  Settings
	index   int        // 0: not seen yet
	ours    []address  // that may be on it by us
	bridge  string     // that it may be a port of by us
	missing parts.List // of wanted, at the last look
	raised  bool       // the link was set up: that it is down is somebody else's will
}

// Set makes the interface as near to wanted as it can, adding before it removes, and sets the
// link up, unless something else has set it down since; it returns what is missing. Where all is as
// wanted nothing happens. From then on Watch keeps the interface so, until Forget. To take away all
// that is ours, as before an administrator's device is given back, wanted holds the interface's
// name alone.
func (m *Manager) Set(wanted Settings) parts.List {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.devices[wanted.Interface]
	if d == nil {
		d = &device{}
		m.devices[wanted.Interface] = d
	}
	d.wanted = wanted
	c, err := m.begin(wanted.Interface)
	if err != nil {
		d.missing = nil
		d.missing.Add("interface "+wanted.Interface, err)
	} else {
		d.meet(c)
		c.apply(d)
	}
	if len(d.missing) > 0 {
		m.wakeWatch()
	}
	return d.missing
}

// meet forgets what was on another interface of the name.
func (d *device) meet(c *change) {
	if d.index != 0 && d.index != c.index {
		d.ours, d.bridge, d.raised = nil, "", false
	}
	d.index = c.index
}

// Inherit says what an earlier process has given an interface that it has left, so that the next Set
// can take it away.
func (m *Manager) Inherit(old Settings) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ours, _ := wantedAddresses(old)
	m.devices[old.Interface] = &device{wanted: old, ours: ours, bridge: old.Bridge}
}

// Missing returns what an interface lacks of its settings, as of the last look.
func (m *Manager) Missing(iface string) parts.List {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.devices[iface]; d != nil {
		return d.missing
	}
	return nil
}

// Forget ends the watch over an interface and changes nothing on it.
func (m *Manager) Forget(iface string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.devices, iface)
}

// apply takes the steps one by one, whatever fails, and notes what is missing after them.
func (c *change) apply(d *device) {
	s := d.wanted
	want, err := wantedAddresses(s)
	c.missing.Add("peer address "+s.PeerAddress.String(), err)
	left := c.setBridge(d.bridge, s.Bridge)
	c.missing.Add("bridge "+cmp.Or(s.Bridge, d.bridge), left)
	c.missing.Add(fmt.Sprintf("mtu %d", s.MTU), c.setMTU(s.MTU, want))
	c.missing.Add("link", c.setUp(d.raised))
	d.raised = d.raised || c.up
	routes := wantedRoutes(s, c.addAddresses(want))
	lost := c.addRoutes(routes)
	c.removeRoutes(routes)
	if c.removeAddresses(d.ours, want) {
		lost = c.addRoutes(routes) // those that went with an address
	}
	c.missing = append(c.missing, lost...)
	if !c.dry {
		d.ours = append(slices.Clone(want), c.stuck...)
		if left == nil || s.Bridge != "" {
			d.bridge = s.Bridge
		}
	}
	d.missing = c.missing
}

// repair brings an interface back to what is wanted. With dry it only looks. mended tells that
// something was put back that had been taken, changed that something else is missing than before.
func (m *Manager) repair(iface string, dry bool) (mended, changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.devices[iface]
	if d == nil {
		return false, false
	}
	c, err := m.begin(iface)
	if err != nil || d.index != 0 && c.index != d.index {
		return false, false // whoever owns the device knows
	}
	d.meet(c)
	before := d.missing
	if d.raised && !c.up { // what goes with the link comes back with it
		d.missing = parts.List{{Part: "link", Err: ErrDown}}
		return false, !d.missing.Same(before)
	}
	c.dry, c.keepMTU = dry, !before.Has("mtu")
	c.apply(d)
	return c.done > came(before, d.missing), !d.missing.Same(before)
}

// came counts what was missing, since it could not be had, and is there now.
func came(before, now parts.List) (n int) {
	for _, m := range before {
		if !errors.Is(m.Err, ErrTaken) && !now.Has(m.Part) {
			n++
		}
	}
	return n
}
