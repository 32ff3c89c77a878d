package peer

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"tund/internal/ctl"
	"tund/internal/handover"
	"tund/internal/keys"
	"tund/internal/supervisor"
	"tund/internal/wire"
)

// errRestarting answers who waits for something while tund makes room for the next one.
var errRestarting = errors.New("tund is restarting")

// takeover is how the tunnel came from an earlier tund to this one.
type takeover struct {
	pending bool          // its first child has not answered yet
	stopped time.Duration // when the earlier child stopped; 0: not known
	lost    string        // why keys were not resumed; empty: they were, or are to be
	result  *ctl.Takeover // nil: there was none, or it is pending
}

// takeOver goes on with what an earlier tund has left. It reports false where that can't be.
func (p *Peer) takeOver(in *handover.Inherited) bool {
	o := Opening{
		Log: p.log, Node: p.o.Node.Identity().Public(), Config: p.cfg, Settings: p.settings(in.Remote.Addr()), Events: p.in.children,
		Inherited: in,
	}
	p.takeover = takeover{pending: true}
	o.Resume, p.takeover.lost = p.recall(in.Peer, p.o.Node.Indexes().Reserve)
	if in.Peer != nil {
		p.takeover.stopped = in.Peer.Stopped
	}
	t, err := p.o.Open(o)
	if err != nil {
		p.ring.clear()
		p.log.Warn("tunnel not taken over", "iface", p.cfg.Interface, "err", err)
		p.takeover = takeover{result: &ctl.Takeover{Result: ctl.TakeoverFresh, Reason: err.Error()}}
		return false
	}
	if in.Remote.IsValid() {
		p.view.outer = p.o.Node.OuterMTU(in.Remote.Addr())
		p.o.Node.Located(p.Name(), "", []netip.Addr{in.Remote.Addr()})
	}
	p.opened(t, o.Settings)
	p.agenda.set(taskCarrier, p.o.Now()+carrierGrace)
	return true
}

// recall restores the empty ring from a record, for which reserve takes the indexes. Where
// that can't be done it says why, and all keys of the record are wiped.
func (p *Peer) recall(left *handover.Peer, reserve func(wire.Index) error) (state *supervisor.State, lost string) {
	if left == nil {
		return nil, "the earlier tund did not hand over keys"
	}
	p.keys.Store(max(p.keys.Load(), uint64(left.NextKey)))
	p.child.restarts = left.Restarts
	switch {
	case left.Lost != "":
		lost = left.Lost
	case left.PublicKey != p.cfg.PublicKey:
		lost = "the peer has another public key now"
	default:
		if err := p.restoreRing(left, reserve); err != nil {
			lost = err.Error()
		}
	}
	if lost != "" {
		for _, s := range left.Slots {
			p.o.Node.Indexes().Rest(s.Index)
		}
		left.Wipe()
		return nil, lost
	}
	return &left.State, ""
}

// errRing is doubt about a record: parent and child have not known of the same slots.
var errRing = errors.New("the slots that were handed over do not fit together")

// restoreRing fills the ring with those slots that the child still had.
func (p *Peer) restoreRing(left *handover.Peer, reserve func(wire.Index) error) error {
	for _, s := range mergeSlots(left, p.o.Now()) {
		if err := reserve(s.index); err != nil {
			p.ring.clear()
			return errors.Join(errRing, err)
		}
		p.ring.slots = append(p.ring.slots, s)
	}
	if !p.ring.covers(&left.State) {
		p.ring.clear()
		return errRing
	}
	return nil
}

// covers tells whether the parent knows of all that the child receives with. It has
// forgotten a key of which one side has ended.
func (r *ring) covers(state *supervisor.State) bool {
	for _, k := range state.Keys {
		for _, s := range k.Slots {
			over := s.Retired || k.SendOver || k.ReceiveOver
			if !over && r.find(slotID{k.KeyID, s.Generation}) == nil {
				return false
			}
		}
	}
	return true
}

// mergeSlots returns the parent's slots that the child held as well, with what the child
// could not report any more.
func mergeSlots(left *handover.Peer, now time.Duration) []slot {
	var merged []slot
	for _, s := range left.Slots {
		held, heard := lookUp(&left.State, s)
		if !held {
			continue
		}
		id := slotID{s.Key, s.Generation}
		r := slot{
			id: id, epoch: s.Epoch, index: s.Index, at: s.At, born: s.Born, aead: s.AEAD, given: true,
			confirmed: s.Confirmed, confirmedAt: s.ConfirmedAt, sends: s.Sends,
		}
		if heard && !s.Confirmed {
			r.confirmed, r.confirmedAt = true, now
		}
		end := left.State.End
		r.sends = r.sends || r.confirmed || id == slotID{end.SendKey, end.SendGeneration}
		merged = append(merged, r)
	}
	slices.SortFunc(merged, func(a, b slot) int {
		if a.id.before(b.id) {
			return -1
		}
		return 1
	})
	return merged
}

// lookUp tells whether the child receives with a slot, and whether it has.
func lookUp(state *supervisor.State, s handover.Slot) (held, heard bool) {
	for _, k := range state.Keys {
		for _, c := range k.Slots {
			if k.KeyID == s.Key && c.Generation == s.Generation && c.ReceiveIndex == s.Index && !c.Retired && !k.ReceiveOver {
				return true, c.Heard
			}
		}
	}
	return false, false
}

// conclude notes how the first child began.
func (p *Peer) conclude(body supervisor.Started) {
	t := &p.takeover
	switch {
	case !t.pending:
		return
	case body.Refused != nil:
		p.ring.clear()
		p.takeoverFailed(body.Refused.Error())
		return
	case !body.Resumed:
		p.takeoverFailed(t.lost)
		return
	}
	gap := p.o.Now() - t.stopped
	p.log.Info("tunnel taken over", "iface", p.cfg.Interface, "duration", gap)
	t.pending, t.result = false, &ctl.Takeover{Result: ctl.TakeoverResumed, GapMS: float64(gap) / float64(time.Millisecond)}
	p.failed("tund was restarted: there is no control session yet")
}

// takeoverFailed notes why a taken-over tunnel begins with a new epoch.
func (p *Peer) takeoverFailed(why string) {
	t := &p.takeover
	if !t.pending {
		return
	}
	p.log.Warn("tunnel taken over without keys", "iface", p.cfg.Interface, "reason", why)
	t.pending, t.result = false, &ctl.Takeover{Result: ctl.TakeoverFresh, Reason: why}
}

// HandOver ends sessions and child without a word to the other side, and returns what
// the next tund needs to go on; ok is false if there is no tunnel. Device and socket stay
// open, and packets wait in them. The peer does nothing from then on until
// TakeBack, or its end. An error says that it was busy until ctx was done, and goes on.
func (p *Peer) HandOver(ctx context.Context) (left handover.Peer, ok bool, err error) {
	err = p.do(ctx, func(context.Context) { left, ok = p.handOver(ctx) })
	return left, ok, err
}

func (p *Peer) handOver(ctx context.Context) (left handover.Peer, ok bool) {
	p.left = true
	p.hush()
	if p.tunnel == nil {
		return handover.Peer{}, false
	}
	left = handover.Peer{
		Tunnel: p.tunnel.Number(), Name: p.Name(), PublicKey: p.cfg.PublicKey, Mode: p.cfg.Mode,
		Settings: p.applied, Restarts: p.child.restarts, Stopped: p.o.Now(),
	}
	state, err := p.tunnel.HandOver(ctx)
	left.State, left.NextKey = state, keys.KeyID(p.keys.Load())
	for _, s := range p.ring.slots {
		left.Slots = append(left.Slots, handover.Slot{
			Key: s.id.Key, Generation: s.id.Generation, Epoch: s.epoch, AEAD: s.aead, Index: s.index,
			At: s.at, Born: s.born, Sends: s.sends, Confirmed: s.confirmed, ConfirmedAt: s.confirmedAt,
		})
	}
	switch {
	case err != nil:
		left.Lost = err.Error()
	case len(state.Keys) == 0:
		left.Lost = "there were no keys"
	case slices.ContainsFunc(p.ring.slots, func(s slot) bool { return s.doomed }):
		left.Lost = "the other side has closed the tunnel"
	}
	if left.Lost != "" {
		left.Wipe()
	}
	return left, true
}

// hush ends all that speaks for the peer, but for its child.
func (p *Peer) hush() {
	p.dial.stop()
	for _, l := range p.links.open {
		l.cancel()
	}
	p.links = links{}
	p.agenda = agenda{}
	p.wait.exchangesLost(errRestarting)
	p.wait.childGone()
	p.child.waiting, p.child.pending = nil, nil
	p.child.number, p.child.pid = 0, 0
}

// TakeBack lets the peer go on after HandOver, with what that has returned, because no other
// tund came.
func (p *Peer) TakeBack(ctx context.Context, left handover.Peer) {
	select {
	case p.in.back <- left:
	case <-p.in.ended:
		left.Wipe()
	case <-ctx.Done():
		left.Wipe()
	}
}

// linger waits after HandOver, and reports false when the peer is to end.
func (p *Peer) linger(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case left := <-p.in.back:
		p.takeBack(&left)
		return true
	}
}

// takeBack goes on in the same process: the indexes are its own still.
func (p *Peer) takeBack(left *handover.Peer) {
	p.left = false
	if p.held != "" { // what would have closed it was forgotten
		left.Wipe()
		p.close()
		return
	}
	if p.tunnel == nil {
		p.open()
		return
	}
	before := p.ring.slots
	p.ring.slots = nil
	p.takeover = takeover{pending: true, stopped: left.Stopped}
	var state *supervisor.State
	state, p.takeover.lost = p.recall(left, func(wire.Index) error { return nil })
	for _, s := range before {
		if p.ring.find(s.id) == nil {
			p.ring.release(s.index)
		}
	}
	p.tunnel.Resume(state)
	p.agenda.set(taskCarrier, p.o.Now()+carrierGrace)
}
