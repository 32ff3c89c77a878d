package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/e2e/lab"
)

// Reloads on the hub of hub_test.go: "one" is changed, "two" must not notice; "three"
// comes and goes. And on a pair (see tunnel_test.go).

// wantReload runs tunctl reload, which must apply the change with this action for a
// peer, or find that fsnotify was faster.
func wantReload(t *testing.T, n *lab.Node, peer, action string) {
	t.Helper()
	var r lab.Reload
	code := n.CtlJSON(&r, "reload")
	if code == 0 && r.Result == "unchanged" {
		return
	}
	if code != 0 || r.Result != "applied" || r.Action(peer) != action {
		t.Errorf("reload: exit %d, %+v; want %q for %s", code, r, action, peer)
	}
}

// wantWords fails the test unless a text has all the words.
func wantWords(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s does not say %q: %s", what, word, text)
		}
	}
}

// within waits until a condition about a reload that came by itself holds.
func within(t *testing.T, what string, condition func() bool) {
	t.Helper()
	lab.Until(t, lab.Patience, what, condition)
}

func TestReloadChangesOnePeerAndTouchesNoOther(t *testing.T) {
	t.Parallel()
	h := newHub(t, "one", "two")
	h.up(t)
	pids := childPIDs(h.Node)
	one, two := h.spokes[0].StartPing("10.77.1.1"), h.spokes[1].StartPing("fd77:2::1")

	h.table.Set("one", "keepalive", `"7s"`)
	h.table.Set("one", "rekey_interval", `"90s"`)
	h.table.Set("one", "mtu", "1380")
	h.Configure(h.table) // fsnotify
	within(t, "the MTU is 1380", func() bool { return deviceMTU(t, h.Node, "tun-one") == 1380 })

	h.table.Set("one", "addresses", `["10.77.1.1/30", "fd77:1::1/64", "10.78.0.1/32"]`)
	h.table.Set("one", "routes", `["10.21.0.0/16", "fd21::/32"]`)
	h.Configure(h.table)
	h.Signal(syscall.SIGHUP)
	within(t, "the address is there", func() bool {
		return strings.Contains(h.IP("addr", "show", "dev", "tun-one"), "10.78.0.1/32")
	})
	within(t, "the routes are there", func() bool {
		return strings.Contains(h.IP("route", "show"), "10.21.0.0/16") && strings.Contains(h.IP("-6", "route", "show"), "fd21::/32")
	})

	h.table.Set("one", "addresses", `["10.77.1.1/30", "fd77:1::1/64"]`)
	h.table.Unset("one", "routes")
	h.Configure(h.table)
	wantReload(t, h.Node, "one", "live")
	within(t, "address and routes are gone", func() bool {
		return !strings.Contains(h.IP("addr", "show", "dev", "tun-one"), "10.78.0.1") &&
			!strings.Contains(h.IP("route", "show")+h.IP("-6", "route", "show"), "21")
	})

	if now := childPIDs(h.Node); now["one"] != pids["one"] || now["two"] != pids["two"] {
		t.Errorf("children were %v, are %v", pids, now)
	}
	wantNoLoss(t, "ping of the peer that changed", one.Stop())
	wantNoLoss(t, "ping of the peer that did not", two.Stop())
}

func TestPeersComeAndGoByReload(t *testing.T) {
	t.Parallel()
	h := newHub(t, "one", "three")
	three := h.table.Peers["three"]
	delete(h.table.Peers, "three")
	h.Configure(h.table)
	h.Start()
	for _, spoke := range h.spokes {
		spoke.Start()
	}
	h.spokes[0].WaitState("hub", "up", lab.Patience)
	h.WaitState("one", "up", lab.Patience)
	pid := childPIDs(h.Node)["one"]
	ping := h.spokes[0].StartPing("10.77.1.1")

	h.table.Peers["three"] = three
	h.Configure(h.table)
	within(t, "the peer is added", func() bool { _, ok := h.Peer("three"); return ok })
	h.WaitState("three", "up", lab.Patience) // its back-off had grown
	wantPing(t, h.spokes[1], "10.77.2.1")

	child := h.MustPeer("three").ChildPID
	delete(h.table.Peers, "three")
	h.Configure(h.table)
	within(t, "the peer is gone", func() bool { _, ok := h.Peer("three"); return !ok })
	within(t, "its child and device are gone", func() bool {
		return !lab.Alive(child) && h.Index("tun-three") == 0
	})

	// A file of its own beside the configuration is as good.
	h.WriteFile("peers.d/three.toml", "[peer.three]\n"+strings.Join(three, "\n")+"\n")
	wantAdded(t, h.Node, "three")
	h.WaitState("three", "up", lab.Patience)
	if now := childPIDs(h.Node)["one"]; now != pid {
		t.Errorf("child of one was %d, is %d", pid, now)
	}
	wantNoLoss(t, "ping of the peer that stayed", ping.Stop())
}

// wantAdded fails the test unless a reload, or fsnotify before it, adds a peer.
func wantAdded(t *testing.T, n *lab.Node, peer string) {
	t.Helper()
	wantReload(t, n, peer, "added")
	if _, ok := n.Peer(peer); !ok {
		t.Errorf("%s is not there after the reload", peer)
	}
}

func TestEndpointsAndPresharedKeyChangeLive(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	pid := p.Alpha.MustPeer("beta").ChildPID
	ping := p.Alpha.StartPing(lab.BetaInner4)

	endpoint := fmt.Sprintf("[%q, %q]", "192.0.2.1:7900", p.Link.Addr(p.Beta, 4).String()+":7900")
	p.AlphaTable.Set("beta", "endpoints", endpoint)
	p.Alpha.Configure(p.AlphaTable)
	wantReload(t, p.Alpha, "beta", "live")

	// A pre-shared key comes into use with a new epoch, at once, on both ends. Between
	// the two files the ends differ, and keep the epoch they have.
	epoch := p.Alpha.MustPeer("beta").Epoch
	key := p.Alpha.NewPresharedKey()
	p.Alpha.WriteFile("beta.psk", key)
	p.Beta.WriteFile("alpha.psk", key)
	p.BetaTable.Set("alpha", "preshared_key_file", `"alpha.psk"`)
	p.Beta.Configure(p.BetaTable)
	p.AlphaTable.Set("beta", "preshared_key_file", `"beta.psk"`)
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.WaitPeer("beta", lab.Patience, "a new epoch with the pre-shared key", func(s lab.PeerStatus) bool { return s.Epoch > epoch })
	rotate(t, p.Alpha, "rotate-key", "beta")

	// A file that changes is a new epoch too.
	epoch = p.Alpha.MustPeer("beta").Epoch
	key = p.Alpha.NewPresharedKey()
	p.Alpha.WriteFile("beta.psk", key)
	p.Beta.WriteFile("alpha.psk", key)
	p.Alpha.WaitPeer("beta", lab.Patience, "a new epoch with the changed key", func(s lab.PeerStatus) bool { return s.Epoch > epoch })
	rotate(t, p.Beta, "rotate-key", "alpha")

	if now := p.Alpha.MustPeer("beta").ChildPID; now != pid {
		t.Errorf("child was %d, is %d", pid, now)
	}
	wantNoLoss(t, "ping over endpoints and pre-shared keys", ping.Stop())
}

func TestBrokenFileChangesNothing(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	pid := p.Alpha.MustPeer("beta").ChildPID
	ping := p.Alpha.StartPing(lab.BetaInner4)
	good := p.AlphaTable.String()
	broken := good + "keepalife = \"25s\"\nmtu = \"large\"\n"
	line := strings.Count(good, "\n") + 1

	p.Alpha.WriteFile("tund.toml", broken)
	within(t, "status shows the error", func() bool { return p.Alpha.Status().Node.Config.Error != "" })
	wantWords(t, "status", p.Alpha.Status().Node.Config.Error, "tund.toml", fmt.Sprint(line), "keepalife")
	var r lab.Reload
	if code := p.Alpha.CtlJSON(&r, "reload"); code == 0 || r.Result != "refused" || len(r.Errors) != 2 {
		t.Fatalf("reload: exit %d, %+v; want refused with 2 errors", code, r)
	}
	for i, key := range []string{"keepalife", "mtu"} {
		e := r.Errors[i]
		if !strings.HasSuffix(e.File, "tund.toml") || e.Line != line+i || !strings.Contains(e.Key, key) || e.Message == "" {
			t.Errorf("error %d: %+v, want line %d and key %s", i, e, line+i, key)
		}
	}
	wantWords(t, "log", p.Alpha.Log(), "keepalife")

	p.Alpha.WriteFile("tund.toml", "[node\n")
	within(t, "status shows the new error", func() bool {
		e := p.Alpha.Status().Node.Config.Error
		return e != "" && !strings.Contains(e, "keepalife")
	})
	p.Alpha.WriteFile("tund.toml", good)
	within(t, "the error is gone", func() bool { return p.Alpha.Status().Node.Config.Error == "" })
	if now := p.Alpha.MustPeer("beta"); now.ChildPID != pid || now.State != "up" {
		t.Errorf("child was %d, is %d, state %q", pid, now.ChildPID, now.State)
	}
	wantNoLoss(t, "ping over broken files", ping.Stop())
}

func TestReloadByHandOnly(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.AlphaTable.Node = []string{`reload = "manual"`}
	p.Alpha.Configure(p.AlphaTable)
	p.Up()
	p.AlphaTable.Set("beta", "mtu", "1300")
	p.Alpha.Configure(p.AlphaTable)
	time.Sleep(time.Second)
	if mtu := deviceMTU(t, p.Alpha, p.AlphaDevice); mtu == 1300 {
		t.Error("the file was taken without a command")
	}
	var r lab.Reload
	if code := p.Alpha.CtlJSON(&r, "reload"); code != 0 || r.Result != "applied" || r.Action("beta") != "live" {
		t.Errorf("reload: exit %d, %+v", code, r)
	}
	if mtu := deviceMTU(t, p.Alpha, p.AlphaDevice); mtu != 1300 {
		t.Errorf("MTU is %d after the reload, want 1300", mtu)
	}
	if code := p.Alpha.CtlJSON(&r, "reload"); code != 0 || r.Result != "unchanged" {
		t.Errorf("second reload: exit %d, %+v", code, r)
	}
}

// Keys of class child cost this one peer its child and device, and nobody else.
func TestReloadMayReplaceOneChild(t *testing.T) {
	t.Parallel()
	h := newHub(t, "one", "two")
	h.up(t)
	pids := childPIDs(h.Node)
	two := h.spokes[1].StartPing("10.77.2.1")
	h.table.Set("one", "interface", `"uplink"`)
	h.Configure(h.table)
	within(t, "the device has its new name", func() bool { return h.Index("uplink") != 0 && h.Index("tun-one") == 0 })
	h.WaitState("one", "up", lab.Patience)
	wantPing(t, h.spokes[0], "10.77.1.1")
	if now := childPIDs(h.Node); now["one"] == pids["one"] || now["two"] != pids["two"] {
		t.Errorf("children were %v, are %v", pids, now)
	}
	wantNoLoss(t, "ping of the other peer", two.Stop())
}

// The listener can move; sessions and data go on.
func TestListenerMoves(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	ping := p.Alpha.StartPing(lab.BetaInner4)
	p.BetaTable.Node = []string{`listen = ["[::]:7911"]`}
	p.Beta.Configure(p.BetaTable)
	to := fmt.Sprintf("%s:7911", p.Link.Addr(p.Beta, 4))
	within(t, "the new port answers", func() bool {
		conn, err := p.Alpha.Dial(t.Context(), to)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	rotate(t, p.Alpha, "rotate-key", "beta")
	wantNoLoss(t, "ping while the listener moved", ping.Stop())
}

// A new private key is a new identity: the peer must know it, and there is a new session,
// without a restart of either.
func TestIdentityChangesLive(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	public := p.Alpha.NewIdentity()
	p.BetaTable.Set("alpha", "public_key", fmt.Sprintf("%q", public))
	p.Beta.Configure(p.BetaTable)
	p.Alpha.WaitPeer("beta", lab.Patience, "up with the new identity", func(s lab.PeerStatus) bool {
		return s.State == "up" && p.Alpha.Status().Node.PublicKey == public
	})
	p.Beta.WaitState("alpha", "up", lab.Patience)
	wantPing(t, p.Alpha, lab.BetaInner4)
	rotate(t, p.Beta, "rotate-key", "alpha")
}
