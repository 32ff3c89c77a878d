package main

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"tund/e2e/lab"
)

const (
	// minRotations is how many rotations of key and IV the demonstration makes at least.
	minRotations = 8
	// rotationPause leaves a rotated key the time to retire: not more than eight are held.
	rotationPause = 1500 * time.Millisecond
)

// act is the scenario, and what was seen in it.
type act struct {
	*show
	programs lab.Binaries
	bytes    int64

	pair      *lab.Pair
	up        time.Duration
	ping      lab.PingResult
	transfer  lab.Transfer
	keys, ivs rotations
	recovery  time.Duration
	complete  bool
}

// rotations sums up rotations of one kind.
type rotations struct {
	count   int
	longest float64 // ms
	lost    uint64
}

// play is the whole scenario, in the order an administrator would do it.
func (a *act) play(*show) {
	a.makeHosts()
	a.bringUp()
	a.pings()
	a.useAndRotate()
	a.killChild()
	a.status()
	a.end()
	a.complete = true
}

func (a *act) makeHosts() {
	a.step("Two hosts, alpha and beta, with a link between them, and a configuration for each")
	a.pair = lab.NewPair(a.show, a.programs, lab.PairOptions{})
	a.seen("alpha's tund.toml (tunctl genkey and pubkey made the keys):")
	a.quote(a.pair.AlphaTable.String())
	for _, node := range []*lab.Node{a.pair.Alpha, a.pair.Beta} {
		r := node.Ctl("check", node.Config())
		a.check(r.Code == 0, "tunctl check on %s: %s", node.Name, strings.TrimSpace(r.Stdout+r.Stderr))
	}
}

func (a *act) bringUp() {
	a.step("Start tund on both")
	a.pair.Beta.Start()
	start := time.Now()
	a.pair.Alpha.Launch()
	lab.Until(a.show, lab.Patience, "the tunnel is up", func() bool {
		return isUp(a.pair.Alpha, "beta") && isUp(a.pair.Beta, "alpha")
	})
	a.up = time.Since(start)
	a.seen("the tunnel is up %v after the second tund was started", a.up.Round(time.Millisecond))
	child := a.pair.Alpha.MustPeer("beta").ChildPID
	a.seen("ps shows the child: %s (process %d)", lab.ProcStatus(child)["Name"], child)
}

// isUp reports whether a node shows its peer as up.
func isUp(n *lab.Node, peer string) bool {
	status, err := n.TryStatus()
	return err == nil && len(status.Peers) == 1 && status.Peers[0].Name == peer && status.Peers[0].State == "up"
}

func (a *act) pings() {
	a.step("Ping through the tunnel")
	for _, try := range []struct{ what, address, size string }{
		{"IPv4", lab.BetaInner4, "56"},
		{"IPv6", lab.BetaInner6, "56"},
		{"IPv4, packets of 6,000 bytes", lab.BetaInner4, "5972"},
		{"IPv6, packets of 6,000 bytes", lab.BetaInner6, "5952"},
	} {
		r := a.pair.Alpha.Ping(try.address, 5, "-s", try.size)
		a.check(r.Lost == 0 && r.Sent == 5, "%s: %v", try.what, r)
	}
}

// useAndRotate moves the bytes, with a ping beside them, and meanwhile changes keys and
// IVs from both ends and the configuration.
func (a *act) useAndRotate() {
	a.step("Move %d MB over TCP, ping 100 times a second, rotate keys and IVs meanwhile, reload a changed file", a.bytes>>20)
	ping := a.pair.Alpha.StartPing(lab.BetaInner4)
	finished := make(chan error, 1) // one result, read below
	go func() {
		var err error
		a.transfer, err = a.pair.Alpha.Send(a.ctx, a.pair.Beta, lab.Addr(lab.BetaInner4), a.bytes)
		finished <- err
	}()
	err := a.rotateUntil(finished)
	a.check(err == nil, "TCP: %d MB in %.1f s, %.0f Mbit/s, the hashes of both ends are equal (%x…) %s",
		a.transfer.ReadBytes>>20, a.transfer.Took.Seconds(), a.transfer.Rate(), a.transfer.ReadHash[:6], textOf(err))
	a.ping = ping.Stop()
	a.check(a.ping.Lost == 0, "ping: %v", a.ping)
}

// rotateUntil makes rotations until the transfer has finished and there were enough.
func (a *act) rotateUntil(finished <-chan error) (result error) {
	for round := 0; finished != nil || round < minRotations; round++ {
		node, peer := a.pair.Alpha, "beta"
		if round%2 == 1 {
			node, peer = a.pair.Beta, "alpha"
		}
		a.rotate(node, peer, "rotate-key", &a.keys)
		a.rotate(node, peer, "rotate-iv", &a.ivs)
		if round == minRotations/2 {
			a.reload()
		}
		timer := time.NewTimer(rotationPause)
		select {
		case result = <-finished:
			finished = nil
			<-timer.C
		case <-timer.C:
		case <-a.ctx.Done():
			a.Fatalf("interrupted")
		}
	}
	return result
}

// rotate runs one rotation, and adds it to the sum.
func (a *act) rotate(node *lab.Node, peer, verb string, sum *rotations) {
	var r lab.Rotation
	code := node.CtlJSON(&r, verb, peer)
	if code != 0 || len(r.Results) != 1 || r.Results[0].Result != "done" {
		a.Errorf("%s on %s: exit %d, %+v", verb, node.Name, code, r.Results)
		return
	}
	one := r.Results[0]
	lost := "unknown"
	if one.Lost != nil {
		lost = fmt.Sprint(*one.Lost)
		sum.lost += *one.Lost
	}
	sum.count++
	sum.longest = max(sum.longest, one.MS)
	a.check(one.To > one.From && lost == "0", "%s on %-5s: %d to %d in %.0f ms, packets lost: %s", verb, node.Name, one.From, one.To, one.MS, lost)
}

// reload changes alpha's file; tund takes it up by itself, or when it is told to.
func (a *act) reload() {
	const route = "10.20.0.0/16"
	a.pair.AlphaTable.Set("beta", "routes", fmt.Sprintf("[%q]", route))
	a.pair.AlphaTable.Set("beta", "keepalive", `"10s"`)
	child := a.pair.Alpha.MustPeer("beta").ChildPID
	a.pair.Alpha.Configure(a.pair.AlphaTable)
	took := lab.Until(a.show, lab.Patience, "the route of the changed file is there", func() bool {
		return strings.Contains(a.pair.Alpha.IP("route", "show"), route)
	})
	now := a.pair.Alpha.MustPeer("beta").ChildPID
	a.check(now == child, "changed file: new route and keepalive in force after %v, the same child", took.Round(time.Millisecond))
	r := a.pair.Alpha.Ctl("reload")
	a.check(r.Code == 0, "tunctl reload: %s", strings.ReplaceAll(strings.TrimSpace(r.Stdout+r.Stderr), "\n", ", "))
}

func (a *act) killChild() {
	a.step("Kill the child of beta's tund")
	before := a.pair.Beta.MustPeer("alpha")
	index := a.pair.Beta.Index(a.pair.BetaDevice)
	ping := a.pair.Alpha.StartPing(lab.BetaInner4)
	if err := syscall.Kill(before.ChildPID, syscall.SIGKILL); err != nil {
		a.Fatalf("kill %d: %v", before.ChildPID, err)
	}
	after := a.pair.Beta.WaitPeer("alpha", lab.Patience, "a new child with a new epoch", func(p lab.PeerStatus) bool {
		return p.ChildPID != 0 && p.ChildPID != before.ChildPID && p.State == "up"
	})
	a.recovery = ping.Stop().LongestGap // it ends with an answer
	a.check(after.Epoch > before.Epoch, "packets flow again after %v; process %d is now %d, epoch %d is now %d",
		a.recovery.Round(time.Millisecond), before.ChildPID, after.ChildPID, before.Epoch, after.Epoch)
	a.check(a.pair.Beta.Index(a.pair.BetaDevice) == index, "the interface stayed")
}

func (a *act) status() {
	a.step("tunctl status on alpha, tunctl status alpha on beta")
	for _, r := range []lab.Result{a.pair.Alpha.Ctl("status"), a.pair.Beta.Ctl("status", "alpha")} {
		a.quote(r.Stdout + r.Stderr)
		a.check(r.Code == 0, "exit code %d", r.Code)
		a.seen("")
	}
}

func (a *act) end() {
	a.step("End both by SIGTERM")
	for _, node := range []*lab.Node{a.pair.Alpha, a.pair.Beta} {
		code, took := node.Stop()
		a.check(code == 0, "tund on %s ended with %d after %v", node.Name, code, took.Round(time.Millisecond))
		left := node.Leftovers(lab.Patience)
		a.check(len(left) == 0, "no process and no device is left on %s %s", node.Name, strings.Join(left, ", "))
	}
}

// summary prints what was seen in all.
func (a *act) summary(problems []string) {
	a.step("Seen in %.0f s", time.Since(a.start).Seconds())
	if a.complete {
		a.seen("up after            %v", a.up.Round(time.Millisecond))
		a.seen("ping                %v", a.ping)
		a.seen("TCP                 %d MB, %.0f Mbit/s, content verified", a.transfer.ReadBytes>>20, a.transfer.Rate())
		a.seen("key rotations       %d, longest %.0f ms, packets lost %d", a.keys.count, a.keys.longest, a.keys.lost)
		a.seen("IV rotations        %d, longest %.0f ms, packets lost %d", a.ivs.count, a.ivs.longest, a.ivs.lost)
		a.seen("child killed        packets again after %v", a.recovery.Round(time.Millisecond))
	}
	for _, problem := range problems {
		first, _, _ := strings.Cut(problem, "\n")
		a.seen("%s  %s", a.paint("1;31", "not as it should be:"), first)
	}
	if len(problems) == 0 {
		a.seen("%s", a.paint("1;32", "everything was as it should be"))
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
