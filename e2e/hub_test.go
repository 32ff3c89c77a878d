package e2e

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"tund/e2e/lab"
)

// A hub with three peers, which reach each other through it:
//
//	            one ── link 1 ──┐
//	            two ── link 2 ──┼── hub
//	          three ── link 3 ──┘
//	inside: hub 10.77.N.1, fd77:N::1     the Nth peer 10.77.N.2, fd77:N::2
type hub struct {
	*lab.Node
	lab    *lab.Lab
	table  lab.Table
	spokes []*lab.Node
	tables []lab.Table
	links  []*lab.Link
}

// newHub makes a hub with peers of the given names, and starts nothing.
func newHub(t *testing.T, names ...string) *hub {
	t.Helper()
	need(t)
	l := lab.New(t, programs)
	h := &hub{Node: l.Node("hub"), lab: l, table: lab.NewTable()}
	for i, name := range names {
		n := i + 1
		spoke := l.Node(name)
		link := l.Link(h.Node, spoke, 1500)
		h.table.Peers[name] = []string{
			fmt.Sprintf("public_key = %q", spoke.PublicKey()),
			fmt.Sprintf("addresses = [\"10.77.%d.1/30\", \"fd77:%d::1/64\"]", n, n),
		}
		table := lab.NewTable()
		table.Peers["hub"] = []string{
			fmt.Sprintf("public_key = %q", h.PublicKey()),
			lab.Endpoint(link.Addr(h.Node, 4+2*(i%2))),
			fmt.Sprintf("addresses = [\"10.77.%d.2/30\", \"fd77:%d::2/64\"]", n, n),
			`routes = ["10.77.0.0/16", "fd77::/16"]`,
		}
		spoke.Configure(table)
		h.spokes, h.tables, h.links = append(h.spokes, spoke), append(h.tables, table), append(h.links, link)
	}
	h.Configure(h.table)
	return h
}

// up starts the hub and its peers and waits until all tunnels are up.
func (h *hub) up(t *testing.T) {
	t.Helper()
	h.Start()
	for _, spoke := range h.spokes {
		spoke.Start()
	}
	for _, spoke := range h.spokes {
		spoke.WaitState("hub", "up", lab.Patience)
		h.WaitState(spoke.Name, "up", lab.Patience)
	}
}

// forward lets a node pass packets on from one device to another.
func forward(t *testing.T, n *lab.Node) {
	t.Helper()
	err := n.Do(func() error {
		for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
			if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// childPIDs returns the process id of each peer's child on a node.
func childPIDs(n *lab.Node) map[string]int {
	pids := map[string]int{}
	for _, peer := range n.Status().Peers {
		pids[peer.Name] = peer.ChildPID
	}
	return pids
}

func TestThreePeersOnOneHubAtOnce(t *testing.T) {
	t.Parallel()
	h := newHub(t, "one", "two", "three")
	h.up(t)
	forward(t, h.Node)
	pings := make([]*lab.Ping, len(h.spokes))
	for i, spoke := range h.spokes {
		pings[i] = spoke.StartPing(fmt.Sprintf("10.77.%d.1", i+1))
	}
	wantPing(t, h.spokes[0], "10.77.2.2")
	wantPing(t, h.spokes[1], "fd77:3::2")
	wantPing(t, h.spokes[2], "10.77.1.2", "-s", "5972")

	// Streams from all of them at once.
	var wg sync.WaitGroup
	for i, spoke := range h.spokes {
		wg.Go(func() {
			moved, err := spoke.Send(t.Context(), h.Node, lab.Addr(fmt.Sprintf("10.77.%d.1", i+1)), 32<<20)
			if err != nil {
				t.Errorf("stream of %s: %v", spoke.Name, err)
				return
			}
			t.Logf("stream of %s: %.0f Mbit/s", spoke.Name, moved.Rate())
		})
	}
	wg.Wait()

	// What happens to one does not touch the others.
	before := childPIDs(h.Node)
	kill(t, before["two"])
	h.WaitPeer("two", lab.Patience, "a new child", func(p lab.PeerStatus) bool {
		return p.ChildPID != before["two"] && p.ChildPID != 0 && p.State == "up"
	})
	if code, _ := h.spokes[1].Stop(); code != 0 {
		t.Errorf("two ended with %d", code)
	}
	rotate(t, h.Node, "rotate-key", "one")
	after := childPIDs(h.Node)
	for _, name := range []string{"one", "three"} {
		if before[name] != after[name] {
			t.Errorf("child of %s was %d, is %d", name, before[name], after[name])
		}
	}
	wantNoLoss(t, "ping of one", pings[0].Stop())
	wantNoLoss(t, "ping of three", pings[2].Stop())
}
