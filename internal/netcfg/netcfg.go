// Package netcfg gives an interface its addresses, MTU, routes and bridge by netlink.
//
// It runs in the parent. A caller says by [Manager.Set] what an interface should have. Each
// part of it stands alone (package parts): what can be had is applied, and the caller is told what can't,
// and why; [Manager.Watch] tries that again, and puts back what something else has taken. What is not
// ours, such as an administrator's own addresses and the routes of a routing daemon, is never
// removed: our routes carry [RouteProtocol], and our addresses are those of the settings given before.
//
// Packets of other addresses go on while settings change. In particular, removing a
// primary IPv4 address takes the others of its subnet along (unless the sysctl
// promote_secondaries is set); they are kept alive by stand-ins meanwhile.
//
// Devices are not made or removed here: that is package tuntap.
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
	ErrNoInterface = errors.New("it does not exist")
	ErrNoBridge    = errors.New("it does not exist")
	ErrRouteExists = errors.New("it exists already")
	ErrNoIPv6      = errors.New("IPv6 is disabled")
	ErrDown        = errors.New("something else has set it down")
	// ErrTaken is for what is not put back at once, since something else takes it away each time.
	ErrTaken = errors.New("something else takes it away again and again")
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
	devices map[string]*device

	wake chan struct{} // for Watch: something is missing; room for one word
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
	return &Manager{handle: handle, lists: lists, devices: map[string]*device{}, wake: make(chan struct{}, 1)}, nil
}

// Close frees the netlink sockets. The interfaces stay as they are.
func (m *Manager) Close() {
	m.handle.Close()
	m.lists.Close()
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
	return fromIP(routes[0].Src), nil
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
