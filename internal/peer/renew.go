package peer

import (
	"context"
	"errors"

	"tund/internal/pipe"
)

// errCloned is the end of what a copy of this machine has as well.
var errCloned = errors.New("this virtual machine was cloned, or set back to a snapshot")

// Renew ends all that a copy of this machine would have in common with it: each session, without
// a word, since that would be sealed with a number that the copy may use too; dials under way;
// and all keys. Device, addresses, socket and child stay. The peer dials anew.
func (p *Peer) Renew(ctx context.Context) error {
	return p.do(ctx, func(inner context.Context) {
		for _, l := range p.links.open {
			l.cancel()
		}
		p.links = links{}
		for _, t := range []task{taskExchange, taskRetire, taskWipe, taskDecide, taskRenew} {
			p.agenda.clear(t)
		}
		p.wait.exchangesLost(errCloned)
		p.dial.restart()
		p.forgetKeys()
		p.failed(errCloned.Error())
		p.startDial(inner)
	})
}

// forgetKeys leaves no key, in the child or on the way there. A child that is about to be given
// those of an earlier tund is ended with its tunnel.
func (p *Peer) forgetKeys() {
	p.child.waiting, p.child.pending = nil, nil
	p.ring.clear()
	if p.takeover.pending {
		p.takeoverFailed(errCloned.Error())
		p.close()
		p.open()
		return
	}
	p.child.seq++
	_ = p.send(pipe.Wipe{Seq: p.child.seq})
}
