package peer

import (
	"context"
	"strings"
	"time"

	"tund/internal/ctl"
	"tund/internal/parts"
	"tund/internal/pipe"
)

// statsLimit is how long status waits for the child's counters before it shows the
// last ones.
const statsLimit = 500 * time.Millisecond

// view is what status shows beside the child's counters.
type view struct {
	state     ctl.State
	since     time.Duration // CLOCK_BOOTTIME
	passes    bool          // session and data did, at the last look
	missing   parts.List    // of the device's settings
	lastError string
	openError string // why the tunnel is not open, as it was logged
	mtu       int    // of the device; 0: there is none
	carrier   bool
	outer     int  // MTU of the route to the peer, as the device was told
	unreached bool // a failed dial was logged since the peer was up
	unkept    bool // the end of a session too
	returned  bool // and the session that came after it

	exchanges     uint64 // that have failed
	exchangeError string // what status was told about the last one that has
	deviceGone    bool   // the child has found its device deleted
}

func (v view) describe() string {
	if trouble := v.trouble(); trouble != "" {
		return string(v.state) + ": " + trouble
	}
	return string(v.state)
}

// trouble is what is missing, and what went wrong last.
func (v view) trouble() string {
	texts := v.missing.Strings()
	if v.lastError != "" {
		texts = append(texts, v.lastError)
	}
	return strings.Join(texts, "; ")
}

// Status describes the peer.
func (p *Peer) Status(ctx context.Context) (ctl.PeerStatus, error) {
	var answer <-chan pipe.Stats
	var status ctl.PeerStatus
	var lost loss
	err := p.do(ctx, func(context.Context) {
		p.refresh()
		status = p.status()
		p.child.seq++
		if p.send(pipe.GetStats{Seq: p.child.seq}) == nil {
			answer = p.wait.counters.add(p.child.seq)
		}
		lost = p.loss
		count(&status, p.child.stats, lost)
	})
	if err != nil || answer == nil {
		return status, err
	}
	limit := time.NewTimer(statsLimit)
	defer limit.Stop()
	select {
	case s := <-answer:
		count(&status, s, lost)
	case <-limit.C:
	case <-ctx.Done():
	}
	return status, nil
}

// status is what the parent knows by itself.
func (p *Peer) status() ctl.PeerStatus {
	s := ctl.PeerStatus{
		Name:      p.Name(),
		State:     p.view.state,
		Interface: p.cfg.Interface,
		Mode:      p.cfg.Mode,
		ChildPID:  p.child.pid,
		MTU:       p.view.mtu,
		Offload:   []string{},
		Sandbox:   []string{}, SandboxLacks: []string{},
		Restarts:  p.child.restarts,
		LastError: p.view.trouble(),
		Missing:   p.view.missing.Strings(),

		ExchangesFailed: p.view.exchanges,
		Warnings:        p.warnings(),
	}
	// Whoever reads it compares with the clock, which may have been set since.
	age := p.o.Now() - p.view.since
	s.Since, s.StateAgeS = time.Now().Add(-age), int64(age/time.Second)
	s.Takeover = p.takeover.result
	if p.takeover.pending {
		s.Takeover = &ctl.Takeover{Result: ctl.TakeoverPending}
	}
	if p.tunnel != nil && p.tunnel.Remote().IsValid() {
		s.Endpoint = p.tunnel.Remote().String()
	}
	if k := p.ring.sending(); k != nil {
		s.Transport = "udp"
		s.Epoch, s.IVGeneration = uint32(k.epoch), uint32(k.id.Generation)
		s.EpochAgeS = int64((p.o.Now() - k.born) / time.Second)
		s.AEAD = k.aead.String()
	}
	return s
}

// warnings are what an administrator should look at though the tunnel may work.
func (p *Peer) warnings() []string {
	all := []string{}
	for _, w := range []string{p.sources.warning(), p.twins.warning(p.o.Now())} {
		if w != "" {
			all = append(all, w)
		}
	}
	return all
}

// count fills in the child's counters.
func count(s *ctl.PeerStatus, c pipe.Stats, l loss) {
	s.RxBytes, s.TxBytes, s.RxPackets, s.TxPackets = c.RxBytes, c.TxBytes, c.RxPackets, c.TxPackets
	s.Drops = ctl.Drops{
		Auth: c.Drops.Auth, Replay: c.Drops.Replay, Malformed: c.Drops.Malformed,
		Unknown: c.Drops.Unknown, Queue: c.Drops.Queue, Source: c.Drops.Source,
		Device: c.Drops.Device, Send: c.Drops.Send, NoKey: c.Drops.NoKey,
	}
	s.Engine = c.Engine
	s.Offload, s.Sandbox = append([]string{}, c.Offloads.Names()...), append([]string{}, c.Sandbox.Names()...)
	s.SandboxLacks = append([]string{}, c.Sandbox.Lacking()...)
	s.Lost, s.Loss = l.since(c)
	if c.RTT > 0 {
		ms := float64(c.RTT) / float64(time.Millisecond)
		s.RTTms = &ms
	}
}
