package udp_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// needRoot skips a test that makes network namespaces.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
}

// enterNamespace moves the test into a network namespace of its own, with loopback up. The
// goroutine keeps its thread, which ends with it.
func enterNamespace(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network: %v", err)
	}
	up(t, "lo")
}

func up(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

func addAddress(t *testing.T, name, prefix string) {
	t.Helper()
	changeAddress(t, name, prefix, netlink.AddrReplace)
}

func deleteAddress(t *testing.T, name, prefix string) {
	t.Helper()
	changeAddress(t, name, prefix, netlink.AddrDel)
}

func changeAddress(t *testing.T, name, prefix string, change func(netlink.Link, *netlink.Addr) error) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatalf("parse %s: %v", prefix, err)
	}
	addr.Flags = unix.IFA_F_NODAD
	if err := change(link, addr); err != nil {
		t.Fatalf("change %s on %s: %v", prefix, name, err)
	}
}

// A wire is two namespaces joined by a veth pair:
//
//	[ left ]  10.1.0.1, fd01::1  ---- MTU 1500 ----  10.1.0.2, fd01::2  [ right ]
type wire struct {
	left, right int // descriptors of the namespaces
}

func newWire(t *testing.T) *wire {
	t.Helper()
	enterNamespace(t)
	right := namespaceFD(t)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network: %v", err)
	}
	w := &wire{left: namespaceFD(t), right: right}
	up(t, "lo")
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "left0"}, PeerName: "right0", PeerNamespace: netlink.NsFd(right)}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatalf("add veth: %v", err)
	}
	w.set(t, "left0", "10.1.0.1/24", "fd01::1/64")
	w.in(t, w.right, func() {
		w.set(t, "right0", "10.1.0.2/24", "fd01::2/64")
		awaitRunning(t, "right0")
	})
	awaitRunning(t, "left0")
	return w
}

// awaitRunning waits until the kernel has seen the carrier: it drops what is sent before.
func awaitRunning(t *testing.T, name string) {
	t.Helper()
	eventually(t, name, func() bool {
		link, err := netlink.LinkByName(name)
		return err == nil && link.Attrs().OperState == netlink.OperUp
	})
}

func (w *wire) set(t *testing.T, name string, prefixes ...string) {
	t.Helper()
	for _, p := range prefixes {
		addAddress(t, name, p)
	}
	up(t, name)
}

// in runs f in another namespace and comes back to the left one.
func (w *wire) in(t *testing.T, ns int, f func()) {
	t.Helper()
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		t.Fatalf("enter namespace: %v", err)
	}
	f()
	if err := unix.Setns(w.left, unix.CLONE_NEWNET); err != nil {
		t.Fatalf("leave namespace: %v", err)
	}
}

func namespaceFD(t *testing.T) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return int(f.Fd())
}

// listen opens a plain socket that stands for a peer or a stranger.
func listen(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadBuffer(4 << 20) // as far as the system allows
	return c
}

func portOf(c *net.UDPConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }
