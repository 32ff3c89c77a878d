package peer

import (
	"context"
	"errors"
	"slices"
	"time"

	"tund/internal/pipe"
	"tund/internal/session"
	"tund/internal/supervisor"
)

// freshLimit is how long a new sending key may go unconfirmed before the data
// channel is called broken: PROBEs leave at 0, 0.25, 0.75, 1.75 s.
const freshLimit = 3 * time.Second

var (
	errNoChild   = errors.New("no data child is running")
	errChildGone = errors.New("the data child has ended")
	errNoKey     = errors.New("the data child does not have this key")
)

// child is what the peer knows of its present child.
type child struct {
	number   uint64 // incarnation; 0: none is ready
	pid      int
	restarts uint64
	late     bool       // the next child may start with an older configuration
	seq      uint64     // last Configure, GetStats or SendProbe
	stats    pipe.Stats // the newest
	waiting  []order    // keys that the child has not been given yet
	pending  []order    // keys that the child has not acknowledged
}

// order is a slot on its way into the child's keyring, and the session that waits. The
// message may hold keys; behind a pointer they can't be printed with all around them.
type order struct {
	id       slotID
	activate bool
	message  *pipe.Message
	from     *session.Session
}

// onChild handles one event of the supervisor.
func (p *Peer) onChild(ctx context.Context, e supervisor.Event) {
	switch body := e.Body.(type) {
	case supervisor.Started:
		p.onStarted(ctx, e, body)
	case supervisor.Exited:
		p.onExited(body)
	case supervisor.Received:
		if e.Child == p.child.number {
			p.onMessage(body.Message)
		}
	}
}

// onStarted gives a new child its first keys: those that wait, or new ones. What waits
// may be of a session that has ended meanwhile.
func (p *Peer) onStarted(ctx context.Context, e supervisor.Event, body supervisor.Started) {
	p.child.number, p.child.pid = e.Child, e.PID
	p.child.stats = pipe.Stats{LastReceived: -1}
	p.countAnew()
	p.conclude(body)
	p.agendaRetire()
	if p.child.late {
		p.child.late = false
		p.configureChild()
	}
	waited := len(p.child.waiting) > 0
	p.installWaiting()
	if !p.dialledTo(p.cfg.Endpoints) { // there is no session, or the endpoints have changed meanwhile
		p.startDial(ctx)
	}
	if p.links.main != nil && !waited && !body.Resumed {
		p.wantRekey()
	}
}

// onExited forgets every key: packet numbers and replay windows died with the child.
func (p *Peer) onExited(body supervisor.Exited) {
	p.failed("data child ended: " + errText(body.Err))
	p.child.number, p.child.pid = 0, 0
	p.child.restarts++
	p.ring.clear()
	p.takeoverFailed("data child ended: " + errText(body.Err))
	p.wait.childGone()
	pending := append(p.child.pending, p.child.waiting...)
	p.child.pending, p.child.waiting = nil, nil
	for _, o := range pending {
		o.from.Installed(o.id.Key, o.id.Generation, errChildGone)
	}
	if p.view.deviceGone {
		p.reopen()
		return
	}
	p.point() // the child may have lost its socket
}

// onMessage handles one message of the present child.
func (p *Peer) onMessage(m pipe.Message) {
	switch m := m.(type) {
	case pipe.Installed:
		p.onInstalled(m)
	case pipe.Displaced:
		p.ring.displaced(slotID{m.KeyID, m.Generation}, m.Kept)
	case pipe.KeyActive:
		p.onKeyActive(slotID{m.KeyID, m.Generation})
	case pipe.RekeyDue:
		p.onRekeyDue(m)
	case pipe.Stats:
		p.reviewSources(p.child.stats.Drops.Source, m.Drops.Source)
		p.child.stats = m
		p.loss.take(m)
		p.wait.stats(m)
	case pipe.ProbeResult:
		p.wait.probe(m)
	case pipe.Configured:
		p.wait.configured(m.Seq)
	case pipe.Fatal:
		p.view.deviceGone = m.Reason == pipe.ReasonDeviceGone
		p.log.Warn("child gave up", "reason", m.Reason)
	}
}

// send gives m to the present child.
func (p *Peer) send(m pipe.Message) error {
	if p.tunnel == nil || p.child.number == 0 {
		return errNoChild
	}
	return p.tunnel.Send(p.child.number, m)
}

// enlist queues a slot for the child, for as long as there is none, or it holds as
// many as it may. Nothing was sealed with a key that waits here.
func (p *Peer) enlist(o order) {
	p.child.waiting = append(p.child.waiting, o)
	p.installWaiting()
}

// installWaiting goes on with what waits, where there is room. It runs after each event, since
// many bring some.
func (p *Peer) installWaiting() {
	for len(p.child.waiting) > 0 && p.tunnel != nil && p.child.number != 0 {
		o := p.child.waiting[0]
		if p.ring.full(o.id.Generation == 0) {
			p.makeRoom(o)
			return
		}
		p.child.waiting = p.child.waiting[1:]
		p.install(o)
	}
}

// makeRoom has the child displace what never came into use, for an installation that waits.
// Its answer lets that go on; where there is nothing to displace it waits for a retirement.
func (p *Peer) makeRoom(o order) {
	if p.ring.leaving() {
		return
	}
	id, ok := p.ring.displaceable(o.id.Generation == 0, p.live)
	if !ok {
		return
	}
	p.ring.displacing(id)
	_ = p.send(pipe.Displace{KeyID: id.Key, Generation: id.Generation})
}

// live tells whether a session is in force, and with it what was agreed on in it.
func (p *Peer) live(s *session.Session) bool {
	return s != nil && p.links.main != nil && p.links.main.s == s
}

// install hands a slot to the child; its session hears of the outcome.
func (p *Peer) install(o order) {
	if s := p.ring.find(o.id); s != nil {
		s.given = true
	}
	if err := p.send(*o.message); err != nil {
		p.dropSlot(o.id)
		o.from.Installed(o.id.Key, o.id.Generation, err)
		return
	}
	p.child.pending = append(p.child.pending, o)
}

// onInstalled passes the child's acknowledgement on.
func (p *Peer) onInstalled(m pipe.Installed) {
	id := slotID{m.KeyID, m.Generation}
	for i, o := range p.child.pending {
		if o.id != id {
			continue
		}
		p.child.pending = append(p.child.pending[:i], p.child.pending[i+1:]...)
		p.settle(o, m.Err)
		return
	}
}

// settle tells the session and the ring how an installation ended.
func (p *Peer) settle(o order, failure string) {
	if failure != "" {
		p.ring.drop(o.id)
		o.from.Installed(o.id.Key, o.id.Generation, errors.New(failure))
		return
	}
	if s := p.ring.find(o.id); s != nil && o.activate {
		s.sends = true
	}
	o.from.Installed(o.id.Key, o.id.Generation, nil)
}

// onKeyActive notes that the other side sends in a slot: the child has switched to
// it as well, and what is older may go after the grace.
func (p *Peer) onKeyActive(id slotID) {
	s := p.ring.find(id)
	if s == nil {
		return
	}
	s.confirmed, s.sends, s.confirmedAt = true, true, p.o.Now()
	p.child.stats.LastReceived = 0
	p.agendaRetire()
	if p.links.main != nil {
		p.links.main.s.Confirmed(id.Key, id.Generation)
	}
	p.wait.confirmed(id)
}

// onRekeyDue answers a limit of the child. A key that has ended is wiped already.
func (p *Peer) onRekeyDue(m pipe.RekeyDue) {
	p.log.Info("rekey due", "key", uint64(m.KeyID), "reason", m.Reason.String())
	if m.Reason == pipe.RekeyExpired {
		p.ring.remove(func(s slot) bool { return s.id.Key == m.KeyID })
		if p.ring.sending() == nil {
			p.failed("keys have reached key_lifetime without a control session")
		}
	}
	p.wantRekey()
}

// retire wipes what is older than a slot confirmed long enough ago. A child that has not
// begun could not hear of it.
func (p *Peer) retire() {
	if p.child.number == 0 {
		return
	}
	if id, ok := p.ring.retirable(p.o.Now() - retireGrace); ok {
		p.ring.retire(id)
		_ = p.send(pipe.Retire{KeyID: id.Key, Generation: id.Generation})
	}
	p.agendaRetire()
}

func (p *Peer) agendaRetire() {
	if at, ok := p.ring.nextRetirement(); ok {
		p.agenda.set(taskRetire, at+retireGrace)
	}
}

// afterDrain ends every key that was there when the other side said goodbye, and
// with an order to stay down everything else, too.
func (p *Peer) afterDrain() {
	if p.held != "" {
		p.close()
		return
	}
	for _, s := range slices.Clone(p.ring.slots) {
		switch {
		case !s.doomed:
		case s.doomedAt+drain <= p.o.Now():
			p.dropSlot(s.id)
		case !p.agenda.has(taskWipe) || s.doomedAt+drain < p.agenda.at[taskWipe]:
			p.agenda.set(taskWipe, s.doomedAt+drain)
		}
	}
}

// dropSlot forgets a slot, in the child or on its way there.
func (p *Peer) dropSlot(id slotID) {
	p.ring.drop(id)
	p.child.waiting = slices.DeleteFunc(p.child.waiting, func(o order) bool { return o.id == id })
	_ = p.send(pipe.Drop{KeyID: id.Key, Generation: id.Generation})
}

// silent tells whether the other side has said nothing authentic for longer than
// its keepalive allows.
func (p *Peer) silent() bool {
	return p.child.stats.LastReceived > 2*p.cfg.Keepalive+5*time.Second
}

func errText(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
