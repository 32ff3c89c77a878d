// Package netcfg gives an interface its addresses, MTU, routes and bridge by netlink.
//
// It runs in the parent. A caller says by [Manager.Apply] what an interface should
// have and what it had; only the difference is changed, and what was changed is put
// back if a later step fails. What is not ours, such as an administrator's own
// addresses and the routes of a routing daemon, is never removed: our routes carry
// [RouteProtocol], and our addresses are those of the settings given before.
//
// Packets of other addresses go on while settings change. In particular, removing a
// primary IPv4 address takes the others of its subnet along (unless the sysctl
// promote_secondaries is set); they are kept alive by stand-ins meanwhile.
//
// [Manager.Watch] reports when something else removed what was applied. Devices are
// not made or removed here: that is package tuntap.
package netcfg

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteProtocol marks the routes of this program in the kernel's tables, as seen in
// `ip route show proto 126`.
const RouteProtocol = 0x7e

// The causes that a caller may test for.
var (
	ErrNoInterface = errors.New("the interface does not exist")
	ErrDown        = errors.New("the interface is down")
	ErrNoBridge    = errors.New("the bridge does not exist")
	ErrRouteExists = errors.New("a route to it exists already")
	ErrNoIPv6      = errors.New("IPv6 is disabled")
)

// Settings are what one interface should have. The zero value of a field stands for
// "nothing of ours", and for the MTU and the bridge: leave it as it is.
type Settings struct {
	Interface string
	// Addresses of the interface, each with the length of its network.
	Addresses []netip.Prefix
	// PeerAddress makes the first address of its family a point-to-point one. It
	// stands in the address's network or, if it is outside, in one of its own.
	PeerAddress netip.Addr
	// Routes lead through the interface, with the first address of the family, if
	// there is one, as source.
	Routes []netip.Prefix
	// Bridge is the name of the bridge that the interface is a port of. The kernel
	// lets the MTU of a bridge follow its ports, unless somebody has set it.
	Bridge string
	MTU    int
}

// Manager changes the interfaces of the network namespace it was made in. It is safe
// for concurrent use.
type Manager struct {
	handle *netlink.Handle
	lists  *netlink.Handle // asks the kernel to filter what it lists

	// mu serialises changes and checks, so that a check never sees half a change.
	// It is held over netlink calls, which do not call back.
	mu      sync.Mutex
	applied map[string]applied
}

// applied is what an interface was last given.
type applied struct {
	settings Settings
	index    int
}

// New opens the netlink sockets, in the network namespace of the calling thread.
func New() (*Manager, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	lists, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	_ = lists.SetStrictCheck(true) // kernels before 4.20 list everything: slower, no more
	return &Manager{handle: handle, lists: lists, applied: map[string]applied{}}, nil
}

// Close frees the netlink sockets. The interfaces stay as they are.
func (m *Manager) Close() {
	m.handle.Close()
	m.lists.Close()
}

// Apply changes an interface from old to wanted, adding before it removes, and sets the
// link up. Where the interface is already as wanted nothing happens. An error leaves
// it as it was. To take away all that is ours, as before an administrator's device
// is given back, wanted holds the interface's name alone.
func (m *Manager) Apply(old, wanted Settings) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	index, err := m.apply(old, wanted)
	if err != nil {
		return fmt.Errorf("configure %s: %w", wanted.Interface, err)
	}
	m.applied[wanted.Interface] = applied{settings: wanted, index: index}
	return nil
}

func (m *Manager) apply(old, wanted Settings) (index int, err error) {
	was, err := wantedAddresses(old)
	if err != nil {
		return 0, err
	}
	want, err := wantedAddresses(wanted)
	if err != nil {
		return 0, err
	}
	c, err := m.begin(wanted.Interface)
	if err != nil {
		return 0, err
	}
	before, err := c.snapshot()
	if err != nil {
		return 0, err
	}
	err = run(
		func() error { return c.checkMTU(wanted.MTU, want) },
		func() error { return c.setBridge(old.Bridge, wanted.Bridge) },
		func() error { return c.setMTU(wanted.MTU) },
		c.setUp,
		func() error { return c.addAddresses(want) },
		func() error { return c.addRoutes(wantedRoutes(wanted)) },
		func() error { return c.removeRoutes(wantedRoutes(wanted)) },
		func() error { return c.removeAddresses(was, want) },
		func() error { return c.addRoutes(wantedRoutes(wanted)) }, // those that went with an address
	)
	if err != nil {
		return 0, errors.Join(err, c.rollBack(before, want))
	}
	return c.index, nil
}

// Restore puts back what the interface should have by the last Apply and does not
// have. It tries all of it, whatever fails, and leaves a link that is down (ErrDown).
func (m *Manager) Restore(iface string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.applied[iface]
	if !ok {
		return nil
	}
	if err := m.restore(a.settings); err != nil {
		return fmt.Errorf("restore %s: %w", iface, err)
	}
	return nil
}

func (m *Manager) restore(s Settings) error {
	want, err := wantedAddresses(s)
	if err != nil {
		return err
	}
	c, err := m.begin(s.Interface)
	if err != nil {
		return err
	}
	if !c.up {
		return ErrDown
	}
	errs := []error{c.setBridge("", s.Bridge)}
	for _, a := range want {
		errs = append(errs, c.addAddresses([]address{a}))
	}
	for _, r := range wantedRoutes(s) {
		errs = append(errs, c.addRoutes([]route{r}))
	}
	return errors.Join(errs...)
}

// Forget ends the watch over an interface and changes nothing on it.
func (m *Manager) Forget(iface string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.applied, iface)
}

// RouteMTU returns the largest packet that may go towards remote: that of the route,
// with what the kernel has learned about the path, or else of the link.
func (m *Manager) RouteMTU(remote netip.Addr) (int, error) {
	mtu, err := m.routeMTU(remote.Unmap())
	if err != nil {
		return 0, fmt.Errorf("look up route to %s: %w", remote, err)
	}
	return mtu, nil
}

// RouteSource returns the address of this machine that packets to remote leave from
// now, unless their socket has another.
func (m *Manager) RouteSource(remote netip.Addr) (netip.Addr, error) {
	routes, err := m.handle.RouteGet(remote.Unmap().AsSlice())
	if err == nil && len(routes) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up route to %s: %w", remote, err)
	}
	source, _ := netip.AddrFromSlice(routes[0].Src)
	return source.Unmap(), nil
}

func (m *Manager) routeMTU(remote netip.Addr) (int, error) {
	if !remote.IsValid() {
		return 0, errors.New("no address")
	}
	routes, err := m.handle.RouteGet(remote.AsSlice())
	if err != nil {
		return 0, err
	}
	if len(routes) == 0 {
		return 0, unix.ENETUNREACH
	}
	link, err := m.handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return 0, err
	}
	if mtu := routes[0].MTU; mtu > 0 && mtu < link.Attrs().MTU {
		return mtu, nil
	}
	return link.Attrs().MTU, nil
}
