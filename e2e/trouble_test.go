package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/e2e/lab"
)

// Trouble on the nodes of a pair (see tunnel_test.go) that nobody ordered: processes that
// hang, devices and addresses that vanish, keys that grow too old.

// A child that hangs is found by its heartbeat, killed and replaced. All the while the parent
// is well, and says so to the watchdog.
func TestHungChildIsReplaced(t *testing.T) {
	t.Parallel()
	const watchdog = 4 * time.Second
	p := newPair(t, lab.PairOptions{})
	manager := p.Alpha.Manage(watchdog)
	p.Up()
	before := p.Alpha.MustPeer("beta")
	if err := syscall.Kill(before.ChildPID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	p.Alpha.WaitPeer("beta", lab.Patience, "a new child", func(s lab.PeerStatus) bool {
		return s.ChildPID != before.ChildPID && s.ChildPID != 0 && s.State == "up"
	})
	t.Logf("replaced after %v", time.Since(start).Round(time.Millisecond))
	// It takes more than two periods of the watchdog to find it: half of them is how often it is pinged.
	pings := slices.DeleteFunc(manager.Heard("WATCHDOG=1"), func(n lab.Notice) bool { return n.At.Before(start) })
	if len(pings) < 2 {
		t.Errorf("the watchdog was pinged %d times meanwhile", len(pings))
	}
	wantPing(t, p.Alpha, lab.BetaInner4)
}

// A parent that hangs stops no packets; when it goes on, so does everything.
func TestHungParentStopsNoPackets(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	pid := p.Alpha.MustPeer("beta").ChildPID
	ping := p.Alpha.StartPing(lab.BetaInner4)
	p.Alpha.Signal(syscall.SIGSTOP)
	p.Beta.WaitPeer("alpha", lab.Patience, "the session is found dead", func(s lab.PeerStatus) bool { return s.State != "up" })
	p.Alpha.Signal(syscall.SIGCONT)
	p.Alpha.WaitState("beta", "up", lab.Patience)
	p.Beta.WaitState("alpha", "up", lab.Patience)
	rotate(t, p.Alpha, "rotate-key", "beta")
	wantNoLoss(t, "ping while a parent hung", ping.Stop())
	if now := p.Alpha.MustPeer("beta").ChildPID; now != pid {
		t.Errorf("child was %d, is %d", pid, now)
	}
}

// A device that someone deletes is made anew.
func TestDeletedDeviceComesBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"tun", "tap"} {
		p := upPair(t, lab.PairOptions{Mode: mode})
		index := p.Alpha.Index(p.AlphaDevice)
		p.Alpha.IP("link", "del", p.AlphaDevice)
		lab.Until(t, lab.Patience, "another device of that name", func() bool {
			now := p.Alpha.Index(p.AlphaDevice)
			return now != 0 && now != index
		})
		p.WaitUp()
		wantPing(t, p.Alpha, lab.BetaInner4)
		wantPing(t, p.Beta, lab.AlphaInner6)
	}
}

// A device that someone sets down or strips of its MTU is the administrator's business,
// but costs no more than that: set up again, it works again.
func TestDeviceSetDownWorksAgainWhenUp(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	pid := p.Alpha.MustPeer("beta").ChildPID
	p.Alpha.IP("link", "set", p.AlphaDevice, "down")
	wantSilence(t, p.Beta, lab.AlphaInner4)
	p.Alpha.IP("link", "set", p.AlphaDevice, "up")
	within(t, "pings are answered", func() bool { return p.Beta.Answers(lab.AlphaInner4) })
	if now := p.Alpha.MustPeer("beta").ChildPID; now != pid {
		t.Errorf("child was %d, is %d", pid, now)
	}
}

// A node whose own address changes is found again by its next session.
func TestChangedAddressIsFoundAgain(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	device := p.Link.Interface(p.Alpha)
	p.Alpha.IP("addr", "del", p.Link.Addr(p.Alpha, 4).String()+"/24", "dev", device)
	p.Alpha.IP("addr", "add", "10.9.1.77/24", "dev", device)
	start := time.Now()
	lab.Until(t, lab.Patience, "pings are answered from the new address", func() bool {
		return p.Alpha.Answers(lab.BetaInner4)
	})
	t.Logf("found again after %v", time.Since(start).Round(time.Millisecond))
	status := p.Beta.WaitPeer("alpha", lab.Patience, "the new address is shown", func(s lab.PeerStatus) bool {
		return strings.HasPrefix(s.Endpoint, "10.9.1.77:")
	})
	t.Logf("beta shows alpha at %s", status.Endpoint)
	p.WaitUp()
}

// Without a session the last keys end with their lifetime, and no packet passes then.
func TestKeysEndWithTheirLifetime(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{Extra: []string{`key_lifetime = "12s"`, `rekey_interval = "10s"`}})
	p.Up()
	cut := []string{"tcp dport 7900", "tcp sport 7900"}
	restoreAlpha, restoreBeta := p.Alpha.Drop(cut...), p.Beta.Drop(cut...)
	wantPing(t, p.Alpha, lab.BetaInner4)
	lab.Until(t, lab.Patience, "the keys have ended", func() bool {
		return !p.Alpha.Answers(lab.BetaInner4)
	})
	wantSilence(t, p.Beta, lab.AlphaInner6)
	for node, peer := range map[*lab.Node]string{p.Alpha: "beta", p.Beta: "alpha"} {
		status := node.WaitPeer(peer, lab.Patience, "without keys", func(s lab.PeerStatus) bool { return s.State != "up" && s.Transport == "" })
		t.Logf("%s shows %s as %q: %s", node.Name, peer, status.State, status.LastError)
	}
	restoreAlpha()
	restoreBeta()
	p.Alpha.WaitState("beta", "up", lab.Patience)
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)
}

// Two nodes that dial each other at the same moment end with one session, and keep it.
func TestSimultaneousDialsEndInOneSession(t *testing.T) {
	t.Parallel()
	for range 4 {
		p := newPair(t, lab.PairOptions{BothDial: true})
		p.Alpha.Launch()
		p.Beta.Launch()
		lab.Until(t, lab.Patience, "both up", func() bool { return isUp(p.Alpha, "beta") && isUp(p.Beta, "alpha") })
		ping := p.Alpha.StartPing(lab.BetaInner4)
		time.Sleep(3 * time.Second)
		wantNoLoss(t, "ping after simultaneous dials", ping.Stop())
		p.WaitUp()
		rotate(t, p.Alpha, "rotate-key", "beta")
		if a, b := p.Alpha.MustPeer("beta"), p.Beta.MustPeer("alpha"); a.Epoch != b.Epoch || a.Restarts+b.Restarts != 0 {
			t.Errorf("epoch %d and %d, restarts %d and %d", a.Epoch, b.Epoch, a.Restarts, b.Restarts)
		}
		for _, n := range []*lab.Node{p.Alpha, p.Beta} {
			lab.Until(t, lab.Patience, n.Name+" has one connection to the other node", func() bool { return sessions(n) == 1 })
		}
	}
}

// sessions counts the established TCP connections of a node that have to do with tund's
// port.
func sessions(n *lab.Node) int {
	out, err := n.Command("cat", "/proc/net/tcp", "/proc/net/tcp6").Output()
	if err != nil {
		return -1
	}
	const established, port = "01", ":1EDC" // 7900
	count := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[3] == established && (strings.HasSuffix(fields[1], port) || strings.HasSuffix(fields[2], port)) {
			count++
		}
	}
	return count
}

// Many changes in quick succession end in what the last one says, and cost nothing.
func TestManyReloadsInARow(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	pid := p.Alpha.MustPeer("beta").ChildPID
	ping := p.Alpha.StartPing(lab.BetaInner4)
	for round := range 30 {
		p.AlphaTable.Set("beta", "mtu", []string{"1400", "1300", "1350"}[round%3])
		p.AlphaTable.Set("beta", "routes", []string{`["10.20.0.0/16"]`, `[]`, `["10.21.0.0/16", "fd21::/32"]`}[round%3])
		p.Alpha.Configure(p.AlphaTable)
		if round%7 == 0 {
			p.Alpha.Signal(syscall.SIGHUP)
		}
		time.Sleep(time.Duration(round%5) * 40 * time.Millisecond)
	}
	within(t, "the last file is in force", func() bool {
		routes := p.Alpha.IP("route")
		return deviceMTU(t, p.Alpha, p.AlphaDevice) == 1350 && strings.Contains(routes, "10.21.0.0/16") && !strings.Contains(routes, "10.20.0.0/16")
	})
	if now := p.Alpha.MustPeer("beta").ChildPID; now != pid {
		t.Errorf("child was %d, is %d", pid, now)
	}
	wantNoLoss(t, "ping over many reloads", ping.Stop())
}

// Rotations that meet the death of a child end, one way or the other, and the tunnel is
// up again.
func TestRotationsWhileChildrenDie(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	for round := range 4 {
		node := []*lab.Node{p.Alpha, p.Beta}[round%2]
		victim := node.Status().Peers[0].ChildPID
		finished := make(chan lab.Result, 1) // read below
		go func() { finished <- p.Alpha.Ctl("rotate-key", "beta", "--json") }()
		time.Sleep(time.Duration(round) * 3 * time.Millisecond)
		kill(t, victim)
		r := <-finished
		if !slices.Contains([]int{0, 1}, r.Code) {
			t.Errorf("rotate-key while a child died: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		t.Logf("rotate-key while a child died: exit %d", r.Code)
		node.WaitPeer(node.Status().Peers[0].Name, lab.Patience, "a new child", func(s lab.PeerStatus) bool {
			return s.ChildPID != 0 && s.ChildPID != victim && s.State == "up"
		})
		p.WaitUp()
		wantPing(t, p.Alpha, lab.BetaInner4)
		rotate(t, p.Beta, "rotate-key", "alpha")
	}
}
