package peer

import (
	"context"
	"errors"

	"tund/internal/ctl"
)

// errStalled is the answer of a peer whose child nobody looks after.
var errStalled = errors.New("the supervisor of the data child does not get on")

// Alive returns nil when the peer's loop has answered and its child is looked after,
// or when the peer has ended. It waits for the answer until ctx ends.
func (p *Peer) Alive(ctx context.Context) error {
	stalled := false
	err := p.do(ctx, func(context.Context) { stalled = p.tunnel != nil && p.tunnel.Stalled() })
	switch {
	case errors.Is(err, ErrStopped):
		return nil
	case stalled:
		return errStalled
	default:
		return err
	}
}

// State returns what the peer is doing, without waiting for it; "" before Run.
func (p *Peer) State() ctl.State {
	s, _ := p.shown.Load().(ctl.State)
	return s
}

// publish shows a new state to whoever asks, and says that there is one.
func (p *Peer) publish(s ctl.State) {
	p.shown.Store(s)
	select {
	case p.o.Changed <- struct{}{}:
	default: // there is a word already, or nobody who wants it
	}
}
