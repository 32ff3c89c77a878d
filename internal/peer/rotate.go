package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tund/internal/ctl"
	"tund/internal/pipe"
)

// confirmLimit is how long a rotation waits for the first packet of the new epoch
// after both ends have installed it.
const confirmLimit = 3 * time.Second

// probeLimit is how long our child may take to answer; it gives the other side 1 s.
const probeLimit = 3 * time.Second

// How often, and how far apart, a rotation looks for packets that seem lost.
const (
	lossLooks = 20
	lossPause = 50 * time.Millisecond
)

// RotateKey agrees with the other side on a new epoch, waits until both use it, and
// tells how many packets were lost meanwhile.
func (p *Peer) RotateKey(ctx context.Context) ctl.PeerResult { return p.rotate(ctx, true) }

// RotateIV is RotateKey for the IV generation of the epoch in force.
func (p *Peer) RotateIV(ctx context.Context) ctl.PeerResult { return p.rotate(ctx, false) }

// rotate runs in the caller's goroutine; each step asks the Run goroutine.
func (p *Peer) rotate(ctx context.Context, epoch bool) ctl.PeerResult {
	result := ctl.PeerResult{Peer: p.Name(), Result: ctl.ResultDone}
	before, err := p.probe(ctx)
	if err != nil {
		result.Result, result.Error = ctl.ResultRefused, err.Error()
		return result
	}
	begun := time.Now()
	from, ended, err := p.beginExchange(ctx, epoch)
	result.From, result.To = from, from
	if err == nil {
		result.To, err = p.awaitExchange(ctx, epoch, from, ended)
	}
	result.MS = time.Since(begun).Milliseconds()
	if err != nil {
		result.Result, result.Error = ctl.ResultFailed, err.Error()
		if errors.Is(err, errNotReady) {
			result.Result = ctl.ResultRefused
		}
		return result
	}
	p.countLoss(ctx, &result, before)
	return result
}

var (
	errNotReady  = errors.New("not connected")
	errMuteChild = errors.New("the data child of this node does not answer; it is replaced if that lasts")
)

// beginExchange starts a REKEY or REIV, or joins the one in flight.
func (p *Peer) beginExchange(ctx context.Context, epoch bool) (from uint32, ended <-chan exchangeEnd, err error) {
	e := p.do(ctx, func(context.Context) {
		s := p.ring.sending()
		switch {
		case p.links.main == nil:
			err = fmt.Errorf("%w: no control session, state %s", errNotReady, p.view.state)
		case s == nil && !epoch, p.child.number == 0:
			err = fmt.Errorf("%w: no epoch yet, state %s", errNotReady, p.view.state)
		default:
			from = numberOf(s, epoch)
			ended = p.wait.addExchange(epoch, p.ring.newest())
			p.links.hurry()
		}
	})
	return from, ended, errors.Join(e, err)
}

// awaitExchange waits for the end of the exchange, then for a packet of the peer in
// what it brought.
func (p *Peer) awaitExchange(ctx context.Context, epoch bool, from uint32, ended <-chan exchangeEnd) (uint32, error) {
	select {
	case end := <-ended:
		if end.err != nil {
			return from, end.err
		}
		return p.awaitConfirmation(ctx, epoch, end.id)
	case <-ctx.Done():
		return from, fmt.Errorf("no answer of the other side: %w", ctx.Err())
	case <-p.in.ended:
		return from, ErrStopped
	}
}

func (p *Peer) awaitConfirmation(ctx context.Context, epoch bool, id slotID) (to uint32, err error) {
	var confirmed <-chan error
	var failed error
	err = p.do(ctx, func(context.Context) {
		s := p.ring.find(id)
		to = numberOf(s, epoch)
		if s == nil {
			failed = errChildGone
		} else if !s.confirmed {
			confirmed = p.wait.slots.add(id)
		}
	})
	if err = errors.Join(err, failed); err != nil || confirmed == nil {
		return to, err
	}
	limit := time.NewTimer(confirmLimit)
	defer limit.Stop()
	select {
	case err := <-confirmed:
		return to, err
	case <-limit.C:
		return to, errors.New("both ends have it, but no packet of the peer has arrived in it")
	case <-ctx.Done():
		return to, ctx.Err()
	}
}

// numberOf is what rotate-key and rotate-iv count: epochs or generations.
func numberOf(s *slot, epoch bool) uint32 {
	switch {
	case s == nil:
		return 0
	case epoch:
		return uint32(s.epoch)
	}
	return uint32(s.id.Generation)
}

// probe asks the peer's child for its totals by way of ours. The error is of our own
// side; where the other one does not answer, OK is false.
func (p *Peer) probe(ctx context.Context) (pipe.ProbeResult, error) {
	var answer <-chan pipe.ProbeResult
	err := p.do(ctx, func(context.Context) {
		p.child.seq++
		if p.send(pipe.SendProbe{ID: p.child.seq}) == nil {
			answer = p.wait.probes.add(p.child.seq)
		}
	})
	if err != nil || answer == nil {
		return pipe.ProbeResult{}, err
	}
	limit := time.NewTimer(probeLimit)
	defer limit.Stop()
	select {
	case r := <-answer:
		return r, nil
	case <-limit.C:
		return pipe.ProbeResult{}, errMuteChild
	case <-ctx.Done():
		return pipe.ProbeResult{}, ctx.Err()
	}
}

// countLoss fills in how many packets have gone missing since the probe before;
// nothing if a probe has failed. A packet may be missing only because a later one has
// overtaken it: where some are, it looks again.
func (p *Peer) countLoss(ctx context.Context, r *ctl.PeerResult, before pipe.ProbeResult) {
	for range lossLooks {
		after, err := p.probe(ctx)
		if err != nil || !before.OK || !after.OK {
			return
		}
		if !lostByRotation(r, before, after) || !pause(ctx, lossPause) {
			return
		}
	}
}

// pause reports whether d passed before ctx was done.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// mostLost is how many packets a rotation can lose at most in one direction: more than any
// link carries in that time.
const mostLost = 1 << 32

// lostByRotation fills in how many packets have gone missing between two probes, and tells
// whether some have; what cannot be is unknown.
func lostByRotation(r *ctl.PeerResult, before, after pipe.ProbeResult) bool {
	rx, tx := risen(before.LocalMissing, after.LocalMissing), risen(before.Missing, after.Missing)
	if rx > mostLost || tx > mostLost {
		r.LostRx, r.LostTx, r.Lost = nil, nil, nil
		return false
	}
	sum := rx + tx
	r.LostRx, r.LostTx, r.Lost = &rx, &tx, &sum
	return sum > 0
}
