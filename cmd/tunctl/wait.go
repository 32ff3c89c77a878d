package main

import (
	"context"
	"time"

	"tund/internal/ctl"
)

// upPause is the time between two looks whether a tunnel is up.
const upPause = 100 * time.Millisecond

// tunnel is what became of one that was waited for.
type tunnel struct {
	State ctl.State `json:"state"`
	Why   string    `json:"why"` // it is not up; "": it is
}

// awaitUp waits until a peer's tunnel is up, or there is no hope for it, but not for longer
// than --timeout.
func (p *program) awaitUp(ctx context.Context, peer string) tunnel {
	if p.timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		ctx = limited
	}
	look := time.NewTicker(upPause)
	defer look.Stop()
	last := tunnel{Why: "tund does not answer"}
	for {
		status, err := p.client().Status(ctx)
		if err == nil {
			last = tunnelOf(status, peer)
		} else if ctx.Err() == nil {
			last = tunnel{Why: err.Error()}
		}
		if last.Why == "" || last.State == ctl.StateDisabled || last.State == ctl.StateDown {
			return last
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return last
		}
	}
}

// tunnelOf says whether a peer is up, and if not, why.
func tunnelOf(status ctl.Status, name string) tunnel {
	for _, peer := range status.Peers {
		if peer.Name != name {
			continue
		}
		t := tunnel{State: peer.State}
		if peer.State != ctl.StateUp && peer.State != ctl.StateRekeying {
			t.Why = or(peer.LastError, "no error so far")
		}
		return t
	}
	return tunnel{Why: or(status.Node.Config.Error, "tund does not have it")}
}

// showTunnel says what became of a tunnel. One that is not up is a part that is not done.
func (p *program) showTunnel(peer string, t tunnel) error {
	if t.Why == "" {
		p.printf("%s: %s\n", peer, t.State)
		return nil
	}
	p.complain("%s: not up: %s: %s", peer, or(string(t.State), "unknown"), t.Why)
	return &reported{exitPartly}
}
