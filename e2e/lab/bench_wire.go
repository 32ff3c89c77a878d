package lab

import (
	"fmt"
	"strconv"
	"strings"
)

// segmenting names the offloads of a veth without which it takes no packet that is
// larger than its MTU, neither of TCP nor of UDP.
var segmenting = []string{"gso", "tso", "tx-udp-segmentation"}

// Segment makes both ends of the link take one packet of its MTU at a time, as a
// network card without offloads does, or gives the super-packets back to them.
func (l *Link) Segment(on bool) error {
	state := "on"
	if on {
		state = "off"
	}
	for _, n := range []*Node{l.a, l.b} {
		args := []string{"-K", l.Interface(n)}
		for _, feature := range segmenting {
			args = append(args, feature, state)
		}
		if err := n.Run("ethtool", args...); err != nil {
			return err
		}
	}
	return nil
}

// Lose makes the node discard, at random, so many per cent of the packets that come in
// over a link, before anything else sees them, until the returned function is called.
func (n *Node) Lose(link *Link, percent int) (restore func() error, err error) {
	return n.discard(link, fmt.Sprintf("numgen random mod 100 < %d", percent))
}

// LoseEvery makes the node discard, before anything else sees it, one of each so many
// UDP packets that come in over a link, until the returned function is called. Of few
// packets Lose may lose none at all.
func (n *Node) LoseEvery(link *Link, count int) (restore func() error, err error) {
	return n.discard(link, fmt.Sprintf("meta l4proto udp numgen inc mod %d == 0", count))
}

// discard makes the node drop the packets that come in over a link and match an expression
// of nft(8).
func (n *Node) discard(link *Link, match string) (restore func() error, err error) {
	n.filters++
	table := "loss" + strconv.Itoa(n.filters)
	script := fmt.Sprintf("add table netdev %[1]s\n"+
		"add chain netdev %[1]s in { type filter hook ingress device %[2]q priority 0; }\n"+
		"add rule netdev %[1]s in %[3]s counter drop\n",
		table, link.Interface(n), match)
	if err := n.tryNFT(script); err != nil {
		return nil, err
	}
	return func() error { return n.tryNFT("delete table netdev " + table + "\n") }, nil
}

func (n *Node) tryNFT(script string) error {
	cmd := n.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("node %s: nft: %w: %s", n.Name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Sent returns how many packets and bytes the node has sent over a link. A super-packet
// that the wire takes whole counts as one.
func (n *Node) Sent(link *Link) (packets, bytes uint64, err error) {
	dir := "/sys/class/net/" + link.Interface(n) + "/statistics/"
	out, err := n.Command("cat", dir+"tx_packets", dir+"tx_bytes").CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("node %s: %w: %s", n.Name, err, strings.TrimSpace(string(out)))
	}
	_, err = fmt.Sscan(string(out), &packets, &bytes)
	return packets, bytes, err
}

// Run executes a command inside the node's namespace and returns its error with what it
// printed. It may be called from any goroutine.
func (n *Node) Run(name string, args ...string) error {
	return run("ip", append([]string{"netns", "exec", n.Namespace, name}, args...)...)
}

// Processes returns the ids of the processes that run on the node.
func (n *Node) Processes() []int { return processesIn(n.Namespace) }

// Output executes a command inside the node's namespace and returns what it printed.
func (n *Node) Output(name string, args ...string) (string, error) {
	out, err := n.Command(name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("node %s: %s %s: %w", n.Name, name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// bare names the offloads of a veth without which every frame on it is complete.
var bare = []string{"tx", "rx", "sg", "gso", "tso", "gro", "tx-udp-segmentation"}

// Bare makes the link one of two network cards without any offload: what goes over it are
// frames of its MTU with complete checksums. The node of the two that is named joins
// what comes in for itself (GRO), as a router may.
func (l *Link) Bare(joins *Node) error {
	for _, n := range []*Node{l.a, l.b} {
		args := []string{"-K", l.Interface(n)}
		for _, feature := range bare {
			args = append(args, feature, "off")
		}
		if n == joins {
			args = append(args, "gro", "on", "rx-udp-gro-forwarding", "on")
		}
		if err := n.Run("ethtool", args...); err != nil {
			return err
		}
	}
	return nil
}
