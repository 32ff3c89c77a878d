package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tund/e2e/lab"
)

// A tunnel in TAP mode between two bridges: two hosts are on one Ethernet, with ARP,
// VLAN tags and frames larger than a link of 1500 would take.
//
//	left ── br0 on alpha ══ tap-beta, tap-alpha ══ br0 on beta ── right
//	                  └──── link, MTU 9000 ────┘
//	192.168.50.1                                         192.168.50.2
//	fd50::1                                              fd50::2
func TestBridgesBecomeOneEthernet(t *testing.T) {
	t.Parallel()
	const mtu = 4000
	p := newPair(t, lab.PairOptions{Mode: "tap", MTU: 9000, Extra: []string{`bridge = "br0"`, fmt.Sprintf("mtu = %d", mtu)}})
	left, right := p.Lab.Node("left"), p.Lab.Node("right")
	for table, peer := range map[*lab.Table]string{&p.AlphaTable: "beta", &p.BetaTable: "alpha"} {
		table.Unset(peer, "addresses") // a port of a bridge has none
	}
	p.Alpha.Configure(p.AlphaTable)
	p.Beta.Configure(p.BetaTable)
	plug(p.Lab, p.Alpha, left, mtu, 1)
	plug(p.Lab, p.Beta, right, mtu, 2)
	p.Up()

	wantPing(t, left, "192.168.50.2")
	wantPing(t, left, "fd50::2")
	wantNeighbour(t, left, right)
	wantPing(t, left, "192.168.50.2", "-M", "do", "-s", fmt.Sprint(mtu-28))
	wantPing(t, left, "192.168.50.2", "-s", "12000")
	wantStream(t, left, right, "192.168.50.2")
	for _, payload := range []int{64, 1500, mtu} {
		wantTagged(t, left, "to-alpha", right, "to-beta", payload)
		wantTagged(t, right, "to-beta", left, "to-alpha", payload)
	}
}

// wantTagged sends a frame with a VLAN tag, which must arrive as it is.
func wantTagged(t *testing.T, from *lab.Node, out string, to *lab.Node, in string, payload int) {
	t.Helper()
	listener := to.ListenFrames(in)
	frame := lab.TaggedFrame(100, payload)
	from.SendFrame(out, frame)
	if heard, err := listener.Hears(frame, lab.Patience); err != nil || !heard {
		t.Errorf("tagged frame with %d bytes from %s to %s: arrived %v, %v", payload, from.Name, to.Name, heard, err)
	}
}

// plug connects a host to a new bridge br0 on a node and gives it its addresses.
func plug(l *lab.Lab, node, host *lab.Node, mtu, number int) {
	node.AddLink("br0", "type", "bridge")
	node.IP("link", "set", "br0", "mtu", fmt.Sprint(mtu), "up")
	cable := l.Link(node, host, mtu)
	node.IP("addr", "flush", "dev", cable.Interface(node))
	node.IP("link", "set", cable.Interface(node), "master", "br0")
	device := cable.Interface(host)
	host.IP("addr", "add", fmt.Sprintf("192.168.50.%d/24", number), "dev", device)
	host.IP("addr", "add", fmt.Sprintf("fd50::%d/64", number), "dev", device, "nodad")
}

// wantNeighbour fails the test unless left learned by ARP the address of right itself:
// one Ethernet, no router between them.
func wantNeighbour(t *testing.T, left, right *lab.Node) {
	t.Helper()
	var links []struct {
		Address string `json:"address"`
	}
	if err := json.Unmarshal([]byte(right.IP("-json", "link", "show", "dev", "to-beta")), &links); err != nil {
		t.Fatal(err)
	}
	if table := left.IP("neigh", "show", "192.168.50.2"); !strings.Contains(table, links[0].Address) {
		t.Errorf("ARP on left says %q, right has %s", table, links[0].Address)
	}
}
