package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/parts"
	"tund/internal/pipe"
	"tund/internal/session"
)

// Why a peer is held down; kept by Node.Hold and shown by status.
const (
	heldHere  = "down by order of this node's administrator"
	heldThere = "down by order of the other side's administrator"
)

// Missing waits until Run has tried to open the tunnel, and returns what is wanted and can't be had:
// the tunnel as a whole, or parts of its device's settings.
func (p *Peer) Missing(ctx context.Context) (missing parts.List, err error) {
	err = p.do(ctx, func(context.Context) {
		if p.agenda.has(taskOpen) {
			missing.Add("tunnel", errors.New(p.view.openError))
		}
		missing = append(missing, p.view.missing...)
	})
	return missing, err
}

// Up ends every order to stay down and waits until the peer is up.
func (p *Peer) Up(ctx context.Context) error {
	var refused error
	err := p.do(ctx, func(inner context.Context) {
		switch {
		case !p.cfg.Enabled:
			refused = ctl.Errorf(ctl.CodeState, "peer %s is disabled in the configuration (enabled = false)", p.Name())
		case p.held != "":
			_ = p.hold("") // logged; at worst the peer is down again after a restart
			p.open()
		case p.links.main == nil:
			p.startDial(inner) // at once, not after the back-off
		}
	})
	if err := errors.Join(err, refused); err != nil {
		return err
	}
	return p.awaitUp(ctx)
}

// awaitUp waits for the state up.
func (p *Peer) awaitUp(ctx context.Context) error {
	for {
		var now view
		var changed <-chan ctl.State
		if err := p.do(ctx, func(context.Context) {
			p.refresh()
			now, changed = p.view, p.wait.addState()
		}); err != nil {
			return err
		}
		if now.state == ctl.StateUp || now.state == ctl.StateRekeying {
			return nil
		}
		select {
		case <-changed:
		case <-p.in.ended:
			return ErrStopped
		case <-ctx.Done():
			return fmt.Errorf("peer %s is not up yet: %s", p.Name(), p.whyNotUp(now))
		}
	}
}

// whyNotUp describes a peer that does not come up; it runs in the caller's goroutine.
func (p *Peer) whyNotUp(now view) string {
	if now.trouble() == "" && now.state == ctl.StateConnecting && len(p.Config().Endpoints) == 0 {
		return string(now.state) + ": this node has no endpoint of it, and waits until it dials"
	}
	return now.describe()
}

// Down tells the other side, frees everything and stays down until Up. With both,
// the other side is asked to stay down until its own administrator's up.
func (p *Peer) Down(ctx context.Context, both bool) (ctl.DownResult, error) {
	return p.order(ctx, both, false)
}

// Shutdown is Down of both sides. Without a session to give the order by it fails
// and changes nothing.
func (p *Peer) Shutdown(ctx context.Context) (ctl.DownResult, error) {
	return p.order(ctx, true, true)
}

func (p *Peer) order(ctx context.Context, both, must bool) (ctl.DownResult, error) {
	begun := time.Now()
	result := ctl.DownResult{Peer: p.Name(), State: ctl.StateDown}
	var refused error
	err := p.do(ctx, func(inner context.Context) {
		if must && p.links.main == nil {
			refused = ctl.Errorf(ctl.CodeState, "peer %s has no control session to give the order by: %s", p.Name(), p.view.describe())
			return
		}
		result.Told = p.links.main != nil
		result.Acknowledged = p.goodbye(inner, "closed by the administrator", both)
		result.StaysDown = both && result.Acknowledged
		if must && !result.Acknowledged {
			refused = ctl.Errorf(ctl.CodePeer, "peer %s has not acknowledged the order", p.Name())
		}
		if err := p.hold(heldHere); err != nil {
			refused = ctl.Errorf(ctl.CodeFailed, "peer %s is down, but comes back at the next start of tund: the order could not be kept: %v", p.Name(), err)
		}
		p.close()
		p.refresh()
		result.State = p.view.state
	})
	result.MS = time.Since(begun).Milliseconds()
	return result, errors.Join(err, refused)
}

// hold obeys an order to stay down, and keeps it over a restart; an empty reason ends
// it. The error says that it could not be kept; it is obeyed all the same.
func (p *Peer) hold(reason string) error {
	p.held = reason
	p.failed(reason)
	err := p.o.Node.Hold(p.Name(), reason)
	if err != nil {
		p.log.Warn("order to stay down not kept", "err", err)
	}
	return err
}

// Update makes cfg the peer's configuration. change says which keys differ. An error says that the tunnel
// can't be made anew as cfg wants it, and that the old one is there again, whole.
func (p *Peer) Update(ctx context.Context, cfg config.Peer, change config.Change) error {
	var failed error
	var settled <-chan struct{}
	err := p.do(ctx, func(inner context.Context) {
		if change.Action == config.ActionChild || cfg.Enabled != p.cfg.Enabled {
			failed = p.rebuild(inner, cfg)
			return
		}
		settled = p.updateLive(inner, cfg)
	})
	if err := errors.Join(err, failed); err != nil || settled == nil {
		return err
	}
	select {
	case <-settled:
		return nil
	case <-p.in.ended:
		return ErrStopped
	case <-ctx.Done(): // a child that hangs is about to be replaced, and the next one starts with it
		p.log.Warn("child has not acknowledged its settings")
		return nil
	}
}

// updateLive changes what can be changed without losing a packet. The channel it
// returns tells when the child has taken its part; it is nil where there is none.
func (p *Peer) updateLive(ctx context.Context, cfg config.Peer) <-chan struct{} {
	old := p.cfg
	p.use(cfg)
	if p.tunnel == nil {
		return nil // whatever opens begins with cfg
	}
	p.applySettings()
	if !samePSK(old, cfg) {
		p.links.hurry()
		p.wantRekey()
	}
	if !sameEndpoints(old, cfg) && !p.dialledTo(cfg.Endpoints) {
		p.dial.restart()
		p.startDial(ctx)
	}
	settled := p.configureChild()
	p.child.late = settled == nil
	return settled
}

// use makes cfg what is wanted, in every state: what opens or begins later begins with it.
func (p *Peer) use(cfg config.Peer) {
	p.cfg = cfg
	p.psk.Store(cfg.PresharedKey)
}

// configureChild tells the present child, and every later one, its settings.
func (p *Peer) configureChild() <-chan struct{} {
	p.child.seq++
	c := pipe.Configure{
		Seq:         p.child.seq,
		Mode:        pipeMode(p.cfg.Mode),
		AllowedIPs:  p.accept(),
		Keepalive:   p.cfg.Keepalive,
		KeyLifetime: p.cfg.KeyLifetime,
		Offloads:    p.tunnel.Offloads(),
	}
	p.tunnel.Configure(c)
	if p.send(c) != nil {
		return nil // the next child starts with it
	}
	return p.wait.settings.add(c.Seq)
}

// Release takes the tunnel down ahead of an Update that rebuilds it, so that other
// peers can have the names, addresses and routes that it gives up. Update must follow.
func (p *Peer) Release(ctx context.Context) error {
	return p.do(ctx, func(inner context.Context) {
		p.had = p.tunnel != nil
		p.leave(inner)
		p.moving = true
	})
}

// leave tells the other side, and takes the tunnel down.
func (p *Peer) leave(ctx context.Context) {
	p.goodbye(ctx, "the configuration has changed", false)
	p.close()
}

// rebuild takes the tunnel down and opens it with a new configuration. Where that fails it goes
// back to the old one, if that had a tunnel, and has it again; else the new one is tried
// until it can be had.
func (p *Peer) rebuild(ctx context.Context, cfg config.Peer) error {
	had := p.tunnel != nil || p.moving && p.had
	p.leave(ctx)
	p.moving = false
	old := p.cfg
	if p.reopenAs(cfg) || !had {
		return nil
	}
	failed := errors.New(p.view.lastError)
	if p.reopenAs(old); p.tunnel == nil {
		p.reopenAs(cfg)
		return nil
	}
	return failed
}

// reopenAs opens the tunnel with a configuration, and reports false where it should
// be open and is not.
func (p *Peer) reopenAs(cfg config.Peer) bool {
	p.use(cfg)
	p.dial.restart()
	p.open()
	return p.tunnel != nil || !cfg.Enabled || p.held != ""
}

// Reconnect replaces the control session, after something that it began with has
// changed: the node's identity, or its ciphers.
func (p *Peer) Reconnect(ctx context.Context) error {
	return p.do(ctx, func(inner context.Context) {
		for _, l := range p.links.all() {
			l.s.Close(session.CloseReplaced, "the configuration of this node has changed")
		}
		p.dial.restart()
		p.startDial(inner)
	})
}

// Noticed is called when something was put back on the device (mended), or when something else may be missing
// than before.
func (p *Peer) Noticed(ctx context.Context, mended bool) error {
	return p.do(ctx, func(context.Context) {
		if p.tunnel == nil {
			return
		}
		if mended {
			p.log.Info("settings restored", "iface", p.cfg.Interface)
		}
		p.lacks(p.tunnel.Missing())
	})
}

// Config returns the configuration in force.
func (p *Peer) Config() config.Peer {
	cfg := p.o.Config
	_ = p.do(context.Background(), func(context.Context) { cfg = p.cfg })
	return cfg
}
