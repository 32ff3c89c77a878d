package e2e

import (
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// What an administrator, or the network, may do to a running pair (see
// tunnel_test.go), and what has to come of it.

func TestPeersSwapTheirDevicesInOneReload(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	child := p.Alpha.MustPeer("beta").ChildPID
	table := p.AlphaTable
	for name, device := range map[string]string{"one": "x1", "two": "x2"} {
		table.Peers[name] = []string{`public_key = "` + newPublicKey(t, p.Alpha) + `"`, `interface = "` + device + `"`}
	}
	table.Set("one", "routes", `["10.20.0.0/16"]`)
	configured(t, p.Alpha, table)
	table.Set("one", "interface", `"x2"`)
	table.Set("two", "interface", `"x1"`)
	table.Unset("one", "routes")
	table.Set("two", "routes", `["10.20.0.0/16"]`)
	configured(t, p.Alpha, table)
	wantWords(t, "route", p.Alpha.IP("route", "show", "10.20.0.0/16"), "dev x1")
	if now := p.Alpha.MustPeer("beta").ChildPID; now != child {
		t.Errorf("the child of an unchanged peer was %d and is %d", child, now)
	}
}

// newPublicKey returns the public key of nobody.
func newPublicKey(t *testing.T, n *lab.Node) string {
	t.Helper()
	return strings.TrimSpace(n.CtlInput(n.Ctl("genkey").Stdout, "pubkey").Stdout)
}

// configured gives a node a configuration, which must be applied whole.
func configured(t *testing.T, n *lab.Node, table lab.Table) {
	t.Helper()
	n.Configure(table)
	if r := n.Ctl("reload"); r.Code != 0 {
		t.Fatalf("reload: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

func TestPeerWhoseNewDeviceIsTakenKeepsItsTunnel(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	p.Alpha.AddLink("taken", "type", "bridge")
	p.AlphaTable.Set("beta", "interface", `"taken"`)
	p.Alpha.Configure(p.AlphaTable)
	if r := p.Alpha.Ctl("reload"); r.Code != 5 || !strings.Contains(r.Stderr, "taken") {
		t.Errorf("reload: exit %d: %s", r.Code, r.Stderr)
	}
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)
	if device := p.Alpha.MustPeer("beta").Interface; device != p.AlphaDevice {
		t.Errorf("the device is %q, want %q", device, p.AlphaDevice)
	}
}

func TestDeviceFollowsTheOuterMTUAtTheNextRotation(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	for _, n := range []*lab.Node{p.Alpha, p.Beta} {
		n.IP("link", "set", p.Link.Interface(n), "mtu", "1300")
	}
	rotate(t, p.Alpha, "rotate-key", "beta")
	for n, device := range map[*lab.Node]string{p.Alpha: p.AlphaDevice, p.Beta: p.BetaDevice} {
		lab.Until(t, lab.Patience, "the device of "+n.Name+" has the least MTU", func() bool {
			return strings.Contains(n.IP("link", "show", device), "mtu 1280 ")
		})
	}
	wantPing(t, p.Alpha, lab.BetaInner4, "-s", "1252") // full packets, in two outer fragments each
}

func TestTunnelOutlivesAChangeOfTheOuterAddress(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{Extra: []string{`keepalive = "1s"`}})
	link := p.Link.Interface(p.Alpha)
	old := p.Link.Addr(p.Alpha, 4).String() + "/24"
	p.Alpha.IP("addr", "add", "10.9.1.77/32", "dev", link)
	p.Alpha.IP("route", "replace", "10.9.1.0/24", "dev", link, "src", "10.9.1.77")
	p.Alpha.IP("addr", "del", old, "dev", link)
	p.Alpha.IP("route", "replace", "10.9.1.0/24", "dev", link, "src", "10.9.1.77")
	took := lab.Until(t, lab.Patience, "a ping through the tunnel", func() bool {
		return p.Alpha.Answers(lab.BetaInner4)
	})
	t.Logf("again after %v", took.Round(time.Second))
}
