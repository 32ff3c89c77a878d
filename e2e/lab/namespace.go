package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaceDir is where ip(8) binds the namespaces it names.
const namespaceDir = "/run/netns"

// Link is a cable between two nodes: a veth pair with an IPv4 and an IPv6 subnet.
type Link struct {
	a, b   *Node
	number int
}

// Link lays a cable between two nodes with the given MTU. The interface of each end is
// called "to-" and the other node's name; the addresses are 10.9.N.1 and .2, and
// fd09:0:0:N::1 and ::2, where N counts the lab's links from 1.
func (l *Lab) Link(a, b *Node, mtu int) *Link {
	l.tb.Helper()
	l.links++
	link := &Link{a: a, b: b, number: l.links}
	a.mustRun("ip", "link", "add", "name", link.Interface(a), "netns", a.Namespace,
		"type", "veth", "peer", "name", link.Interface(b), "netns", b.Namespace)
	for _, n := range []*Node{a, b} {
		name := link.Interface(n)
		n.made = append(n.made, name)
		n.IP("link", "set", name, "mtu", strconv.Itoa(mtu), "up")
		n.IP("addr", "add", link.Addr(n, 4).String()+"/24", "dev", name)
		n.IP("addr", "add", link.Addr(n, 6).String()+"/64", "dev", name, "nodad")
	}
	return link
}

// Interface returns the name of the link's interface in n.
func (l *Link) Interface(n *Node) string {
	if n == l.a {
		return "to-" + l.b.Name
	}
	return "to-" + l.a.Name
}

// Addr returns the address of n on the link, of IP version 4 or 6.
func (l *Link) Addr(n *Node, version int) netip.Addr {
	host := 1
	if n == l.b {
		host = 2
	}
	if version == 6 {
		return netip.MustParseAddr(fmt.Sprintf("fd09:0:0:%x::%d", l.number, host))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.9.%d.%d", l.number, host))
}

// IP runs ip(8) on the node's namespace and returns what it printed.
func (n *Node) IP(args ...string) string {
	n.lab.tb.Helper()
	return n.mustRun("ip", append([]string{"-n", n.Namespace}, args...)...)
}

// AddLink makes a device on the node, as "ip link add" with these arguments; the first
// is its name. It is expected to be there still when the lab ends.
func (n *Node) AddLink(name string, args ...string) {
	n.lab.tb.Helper()
	n.IP(append([]string{"link", "add", "name", name}, args...)...)
	n.made = append(n.made, name)
}

// Interfaces returns the names of the network devices on the node, sorted.
func (n *Node) Interfaces() []string {
	n.lab.tb.Helper()
	var links []struct {
		Name string `json:"ifname"`
	}
	if err := json.Unmarshal([]byte(n.IP("-json", "link", "show")), &links); err != nil {
		n.lab.tb.Fatalf("node %s: list links: %v", n.Name, err)
	}
	names := make([]string, 0, len(links))
	for _, link := range links {
		names = append(names, link.Name)
	}
	slices.Sort(names)
	return names
}

// Index returns the kernel's number of a network device on the node, 0 if there is none.
func (n *Node) Index(device string) int {
	n.lab.tb.Helper()
	index := 0
	err := n.Do(func() error {
		if found, err := net.InterfaceByName(device); err == nil {
			index = found.Index
		}
		return nil
	})
	if err != nil {
		n.lab.tb.Fatalf("%v", err)
	}
	return index
}

// Do runs f on a thread inside the node's namespace. Sockets that f opens stay there
// and can be used from anywhere afterwards.
func (n *Node) Do(f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("leave for %s: %w", n.Name, err)
	}
	defer func() {
		// A thread that does not find home stays locked, and ends with its goroutine.
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		_ = unix.Close(home)
	}()
	if err := enter(n.Namespace); err != nil {
		return fmt.Errorf("enter namespace of %s: %w", n.Name, err)
	}
	return f()
}

// enter moves the calling thread into a named network namespace.
func enter(namespace string) error {
	fd, err := unix.Open(filepath.Join(namespaceDir, namespace), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Setns(fd, unix.CLONE_NEWNET)
}

// Command returns a command that runs inside the node's namespace. Its process is
// the program itself, since ip replaces itself by it.
func (n *Node) Command(name string, args ...string) *exec.Cmd {
	args = append([]string{"netns", "exec", n.Namespace, name}, args...)
	cmd := exec.Command("ip", args...)
	cmd.Env = environment()
	return cmd
}

// Drop makes the node discard incoming outer packets that match any of the given nft
// expressions, such as "udp dport 7900", until the returned function is called.
func (n *Node) Drop(matches ...string) (restore func()) {
	matches = slices.Clone(matches)
	n.lab.tb.Helper()
	for i := range matches {
		matches[i] += " counter drop"
	}
	return n.filter(matches)
}

// Reset makes the node answer everything that comes to a TCP port with a reset, until
// the returned function is called.
func (n *Node) Reset(port int) (restore func()) {
	n.lab.tb.Helper()
	return n.filter([]string{fmt.Sprintf("tcp dport %d counter reject with tcp reset", port)})
}

// filter lays nft rules at the node's input, before everything else.
func (n *Node) filter(lines []string) (restore func()) {
	n.lab.tb.Helper()
	n.filters++
	table := "lab" + strconv.Itoa(n.filters)
	rules := &strings.Builder{}
	for _, line := range lines {
		fmt.Fprintf(rules, "add rule inet %s input %s\n", table, line)
	}
	n.nft(fmt.Sprintf("add table inet %[1]s\nadd chain inet %[1]s input { type filter hook input priority 0; }\n%[2]s", table, rules))
	return func() { n.nft("delete table inet " + table + "\n") }
}

// Isolate makes the node discard everything that comes in over a link.
func (n *Node) Isolate(link *Link) (restore func()) {
	n.lab.tb.Helper()
	return n.Drop(`iifname "` + link.Interface(n) + `"`)
}

func (n *Node) nft(script string) {
	n.lab.tb.Helper()
	cmd := n.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.lab.tb.Fatalf("node %s: nft: %v: %s", n.Name, err, out)
	}
}

// mustRun executes a command and returns its output; a failure is fatal.
func (n *Node) mustRun(name string, args ...string) string {
	n.lab.tb.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		n.lab.tb.Fatalf("node %s: %s %s: %v: %s", n.Name, name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out)
}
