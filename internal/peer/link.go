package peer

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/session"
)

// links are the control sessions of a peer: mostly one.
type links struct {
	open  []*link // all that run, oldest first
	main  *link   // established and in force
	rival *link   // established too, while it is open which of the two goes on

	waits  bool  // for the other side to say which one
	wanted *link // the one on which it has sent a REKEY meanwhile

	exchange  bool          // one is in flight on main
	rekeyDue  bool          // a new epoch is needed before its time
	failures  int           // exchanges failed in a row
	notBefore time.Duration // the next one of ours
	soonest   time.Duration // that one, where somebody asks for it
}

// askedPause follows a failed exchange also where an administrator asks for the next one: what he
// does in a loop stays below what the other side grants, protocol.md 2.7.
const askedPause = 250 * time.Millisecond

// hurry has the next exchange not wait for long after those that have failed.
func (l *links) hurry() { l.notBefore = min(l.notBefore, l.soonest) }

// link is one session and what the peer knows of it.
type link struct {
	s           *session.Session
	conn        *session.Conn
	endpoint    string // as configured, where we dialled
	established session.Established
	cancel      context.CancelFunc
}

// decideLimit is the time after which the other side should have decided which of
// two sessions goes on.
const decideLimit = 10 * time.Second

// wantedPause is how long a REKEY waits for the other side to close the other session: it may
// have been sent before the other side knew that there are two.
const wantedPause = time.Second

// all returns every session.
func (l *links) all() []*link { return slices.Clone(l.open) }

func (l *links) find(s *session.Session) *link {
	for _, k := range l.open {
		if k.s == s {
			return k
		}
	}
	return nil
}

// attach runs a session over conn.
func (p *Peer) attach(ctx context.Context, conn *session.Conn, endpoint string) {
	inner, cancel := context.WithCancel(ctx)
	l := &link{conn: conn, endpoint: endpoint, cancel: cancel}
	l.s = session.New(session.Options{
		Log:       p.log,
		Conn:      conn,
		Identity:  p.o.Node.Identity(),
		Hello:     p.hello(conn),
		Secrets:   p,
		Indexes:   p.o.Node.Indexes(),
		NextKeyID: p.nextKey,
		Events:    p.in.sessions,
		Allowance: p.admission.allowance,
	})
	p.links.open = append(p.links.open, l)
	l.s.Hold(p.links.main != nil) // until it is clear which one goes on
	p.wg.Go(func() {              // ends when the session does, or Run
		_ = l.s.Run(inner)
	})
}

// featurePartialCsum says that packets with a partial checksum may come.
const featurePartialCsum = "partial-csum"

// hello is what this node says of itself to this peer.
func (p *Peer) hello(conn *session.Conn) session.Hello {
	remote := conn.Remote().Addr()
	return session.Hello{
		Instance: p.o.Node.Instance(),
		Mode:     p.cfg.Mode,
		MTU:      p.mtu(remote),
		UDPPort:  p.localPort(remote),
		AEADs:    p.o.Node.AEADs(),
		Features: []string{featurePartialCsum},
	}
}

// onSession handles one event of a session.
func (p *Peer) onSession(e session.Event) {
	l := p.links.find(e.Session)
	if l == nil {
		p.discard(e.Body)
		return
	}
	switch body := e.Body.(type) {
	case session.Established:
		p.onEstablished(l, body)
	case session.InstallKey:
		p.onInstallKey(l, &body)
	case session.InstallIV:
		p.onInstallIV(l, body)
	case session.Activate:
		p.onActivate(slotID{body.KeyID, body.Generation})
	case session.Drop:
		p.dropSlot(slotID{body.KeyID, body.Generation})
	case session.Exchanged:
		if l == p.links.main {
			p.onExchanged(body)
		}
	case session.Wanted:
		p.want(l)
	case session.PongReceived:
		if l == p.links.main {
			p.choose(l)
		}
	case session.ShutdownReceived:
		p.onShutdown(body)
	case session.Closed:
		p.onClosed(l, body)
	}
}

// abandon ends a session that is not established without a word, and forgets it.
func (p *Peer) abandon(l *link) {
	l.cancel()
	p.links.open = slices.DeleteFunc(p.links.open, func(k *link) bool { return k == l })
}

// discard gives back what came with the last event of a session that was ended here.
func (p *Peer) discard(body session.EventBody) {
	switch body := body.(type) {
	case session.InstallKey:
		p.ring.release(body.ReceiveIndex)
	case session.InstallIV:
		p.ring.release(body.ReceiveIndex)
	}
}

// onEstablished takes a session into service, or asks which of two to keep.
func (p *Peer) onEstablished(l *link, body session.Established) {
	l.established = body
	switch {
	case !p.cfg.Enabled:
		l.s.Close(session.CloseDisabled, "this tunnel is disabled at the other side")
	case p.held == heldThere:
		l.s.Close(session.CloseStayDown, "down by your order, until tunctl up at the remote node")
	case p.held != "":
		l.s.Close(session.CloseDisabled, "administratively down at the remote node, until tunctl up there")
	case p.tunnel == nil:
		l.s.Close(session.CloseDisabled, "this tunnel cannot be opened at the other side")
	case p.links.main == nil:
		p.adopt(l)
	default:
		p.contest(l)
	}
}

// adopt makes l the main session.
func (p *Peer) adopt(l *link) {
	p.links.main, p.links.exchange = l, false
	p.twins.inForce(l.established.Hello.Instance)
	p.countAnew()
	l.s.Hold(false)
	p.links.notBefore, p.links.failures = 0, 0
	p.agenda.clear(taskDecide)
	p.agenda.clear(taskDial)
	p.agenda.clear(taskRenew)
	p.dial.stop()
	p.o.Node.Located(p.Name(), "", []netip.Addr{l.conn.Remote().Addr()})
	p.log.Log(context.Background(), p.levelOfReturn(), "session established",
		"endpoint", l.conn.Remote().String(), "version", l.established.Version)
	p.point()
	if l.conn.Dialled() {
		p.agenda.set(taskRenew, p.o.Now()+renewAfter)
		p.wantRekey()
	}
}

// contest decides between the main session and a newer one.
func (p *Peer) contest(l *link) {
	if p.links.rival != nil {
		p.links.rival.s.Close(session.CloseDuplicate, "")
	}
	p.links.rival, p.links.waits, p.links.wanted, p.twins.found = l, false, nil, p.isTwin(l)
	switch p.arbitrate(p.links.main, l) {
	case session.KeepNewer:
		p.choose(l)
	case session.KeepOlder:
		p.choose(p.links.main)
	case session.PingOlder:
		p.holdBoth(true)
		p.links.main.s.Ping(0)
		p.agenda.set(taskDecide, p.o.Now()+session.RivalLimit)
	case session.Wait:
		p.links.waits = true
		p.holdBoth(true)
		p.agenda.set(taskDecide, p.o.Now()+decideLimit)
	}
}

func (p *Peer) holdBoth(held bool) {
	p.links.main.s.Hold(held)
	p.links.rival.s.Hold(held)
}

// want takes a REKEY of the other side as a sign which session it uses. Where it decides,
// its CLOSE of the other one comes first, if it comes at all.
func (p *Peer) want(l *link) {
	if p.links.rival == nil || p.twins.found || l != p.links.main && l != p.links.rival {
		return
	}
	if !p.links.waits {
		p.choose(l)
		return
	}
	p.links.wanted = l
	p.agenda.set(taskDecide, p.o.Now()+wantedPause)
}

// decide ends the contest when nobody else has: the older one did not answer, or the other
// side, which decides, uses one of them.
func (p *Peer) decide() {
	if p.links.wanted != nil {
		p.choose(p.links.wanted)
		return
	}
	p.choose(p.links.rival)
}

// choose keeps one of the two sessions and closes the other. A third one, which is
// closing, decides nothing.
func (p *Peer) choose(winner *link) {
	if p.links.rival == nil || winner != p.links.main && winner != p.links.rival {
		return
	}
	older, newer := p.links.main, p.links.rival
	p.links.rival = nil
	p.agenda.clear(taskDecide)
	if winner == older {
		older.s.Hold(false)
		p.closeLoser(older, newer)
		return
	}
	p.closeLoser(newer, older)
	p.adopt(newer)
}

// onShutdown obeys the other side's goodbye: keys go after the drain, and with an
// order to stay down everything else, too.
func (p *Peer) onShutdown(body session.ShutdownReceived) {
	p.log.Info("shutdown received", "reason", body.Reason)
	p.failed("closed by the other side: " + body.Reason)
	if body.StayDown && p.cfg.AcceptStayDown {
		_ = p.hold(heldThere) // logged
	}
	p.ring.doom(p.o.Now())
	if !p.agenda.has(taskWipe) { // each slot has its own time: see afterDrain
		p.agenda.set(taskWipe, p.o.Now()+drain)
	}
}

// onClosed lets a session go and looks what remains.
func (p *Peer) onClosed(l *link, body session.Closed) {
	p.abandon(l)
	if body.Code == session.CloseLimit && !body.Remote && body.Err != nil { // not one that was closed for it
		p.breach(body.Err)
	}
	switch l {
	case p.links.rival:
		p.links.rival = nil
		p.agenda.clear(taskDecide)
		p.links.main.s.Hold(false)
	case p.links.main:
		p.onMainClosed(body)
	default:
		p.onFruitless(body)
	}
}

// onMainClosed goes on with the rival, or without a session.
func (p *Peer) onMainClosed(body session.Closed) {
	p.links.main, p.links.exchange = nil, false
	p.agenda.clear(taskRenew)
	if next := p.links.rival; next != nil {
		p.links.rival = nil
		p.adopt(next)
		return
	}
	if body.Err != nil && body.Code != session.CloseShutdown {
		p.failed("control session lost: " + body.Err.Error())
		p.log.Log(context.Background(), p.levelOfLoss(), "session lost", "err", body.Err)
	}
	p.wait.exchangesLost(body.Err)
	if p.dial.failures == 0 {
		p.dial.eager = p.o.Now() + eager
	}
	p.planDial(body.Code)
}

// onFruitless handles the end of a session that never was in force.
func (p *Peer) onFruitless(body session.Closed) {
	if p.links.main != nil {
		return
	}
	if body.Err != nil {
		p.failed(body.Err.Error())
		p.log.Log(context.Background(), p.levelOfLoss(), "session refused", "err", body.Err)
	}
	p.planDial(body.Code)
}

// onInstallKey hands the key of a new epoch to the child, which serves all who have needed
// one until now, whichever side has begun the exchange.
func (p *Peer) onInstallKey(l *link, b *session.InstallKey) {
	if l == p.links.main {
		p.links.exchange, p.links.rekeyDue = true, false
	}
	id, now := slotID{Key: b.KeyID}, p.o.Now()
	p.ring.add(slot{id: id, epoch: b.Epoch, aead: b.AEAD, index: b.ReceiveIndex, at: now, born: now, from: l.s})
	var message pipe.Message = &pipe.InstallKey{
		KeyID: b.KeyID, Epoch: b.Epoch, AEAD: b.AEAD, Send: b.Send, Receive: b.Receive,
		SendIndex: b.SendIndex, ReceiveIndex: b.ReceiveIndex, Activate: b.Activate,
		PartialCsum: slices.Contains(l.established.Hello.Features, featurePartialCsum),
	}
	p.enlist(order{id: id, activate: b.Activate, from: l.s, message: &message})
}

// onInstallIV hands a new IV generation to the child, unless its key died with a child.
func (p *Peer) onInstallIV(l *link, b session.InstallIV) {
	if p.ring.ofKey(b.KeyID) == nil {
		p.ring.release(b.ReceiveIndex)
		l.s.Installed(b.KeyID, b.Generation, errNoKey)
		return
	}
	p.links.exchange = p.links.exchange || l == p.links.main
	id := slotID{b.KeyID, b.Generation}
	p.ring.add(slot{id: id, index: b.ReceiveIndex, at: p.o.Now(), from: l.s})
	var message pipe.Message = pipe.InstallIV{
		KeyID: b.KeyID, Generation: b.Generation,
		SendIndex: b.SendIndex, ReceiveIndex: b.ReceiveIndex, Activate: b.Activate,
	}
	p.enlist(order{id: id, activate: b.Activate, from: l.s, message: &message})
}

// onActivate switches the child's sending: the other side has the key for sure.
func (p *Peer) onActivate(id slotID) {
	if s := p.ring.find(id); s != nil {
		s.sends = true
		_ = p.send(pipe.Activate{KeyID: id.Key, Generation: id.Generation})
	}
}

// onExchanged notes the end of an exchange and tells who waits for it.
func (p *Peer) onExchanged(b session.Exchanged) {
	p.links.exchange = false
	end := exchangeEnd{epoch: b.Kind == session.KindRekey, id: slotID{b.KeyID, b.Generation}, err: b.Err}
	p.wait.exchange(end)
	p.links.rekeyDue = p.links.rekeyDue || end.epoch && b.Err != nil
	if b.Err != nil {
		p.links.failures++
		p.links.soonest = p.o.Now() + askedPause
		p.links.notBefore = p.o.Now() + session.Backoff(p.links.failures, rand.Float64())
		p.exchangeFailed(b.Kind, b.Err)
		p.log.Warn("exchange failed", "exchange", b.Kind.String(), "err", b.Err)
		return
	}
	p.links.failures, p.links.notBefore = 0, 0
	p.exchangeDone()
	p.dial.failures = 0 // not before: a session that gives no key is no success
	p.followPath()
	p.log.Debug("exchange done", "exchange", b.Kind.String(), "epoch", uint32(b.Epoch), "generation", uint32(b.Generation))
}

// rival is what the arbitration of two sessions looks at.
func (p *Peer) rival(l *link) session.Rival {
	place, back := p.twins.place(l.established.Hello.Instance)
	return session.Rival{
		Instance:    l.established.Hello.Instance,
		Dialled:     l.conn.Dialled(),
		Established: l.established.At,
		First:       place,
		Back:        back,
	}
}

// nextKey numbers the keys of this peer; the session's goroutine calls it.
func (p *Peer) nextKey() keys.KeyID { return keys.KeyID(p.keys.Add(1)) }

// wantRekey asks for a new epoch as soon as one can be had.
func (p *Peer) wantRekey() { p.links.rekeyDue = true }

// planExchange sets the time of the next exchange that this side begins: what is
// asked for, else a new epoch at the end of the interval. The side with the greater
// key waits an eighth longer, so that the two do not begin at once. Where the child
// holds as many keys as it may, the exchange waits until one is retired or can be displaced.
func (p *Peer) planExchange() {
	p.agenda.clear(taskExchange)
	l := &p.links
	epoch, iv := p.due()
	if l.main == nil || l.rival != nil || l.exchange || p.child.number == 0 || !p.ring.hasRoom(epoch || !iv, p.live) {
		return
	}
	at := p.o.Now()
	if !epoch && !iv {
		s := p.ring.sending()
		if s == nil {
			return // the first epoch is begun by who dialled
		}
		at = s.born + p.cfg.RekeyInterval
		if p.o.Node.Identity().Public().Compare(p.cfg.PublicKey) > 0 {
			at += p.cfg.RekeyInterval / 8
		}
	}
	p.agenda.set(taskExchange, max(at, l.notBefore))
}

// due tells what is wanted at once, by us or by who waits for it. What was needed once the
// key of an exchange in flight was handed over still is after it.
func (p *Peer) due() (epoch, iv bool) {
	epoch, iv = p.wait.unserved()
	return epoch || p.links.rekeyDue, iv
}

// startExchange begins a planned exchange.
func (p *Peer) startExchange() {
	l := &p.links
	epoch, iv := p.due()
	l.exchange, l.rekeyDue = true, false
	if iv && !epoch {
		l.main.s.Reiv()
		return
	}
	l.main.s.Rekey()
}

// goodbye tells the other side, over the main session, that the tunnel ends, and
// returns whether it has acknowledged. Meanwhile the peer goes on as ever.
func (p *Peer) goodbye(ctx context.Context, reason string, stayDown bool) (acknowledged bool) {
	l := p.links.main
	if l == nil {
		return false
	}
	l.s.Shutdown(reason, stayDown)
	limit := time.NewTimer(goodbyeLimit)
	defer limit.Stop()
	for {
		select {
		case e := <-p.in.sessions:
			if body, ok := e.Body.(session.Closed); ok && e.Session == l.s {
				p.links.rival = nil
				p.onClosed(l, body)
				return body.Err == nil && body.Code == session.CloseShutdown
			}
			p.onSession(e)
			if next := p.links.main; next != nil && next != l { // replaced just now
				l = next
				l.s.Shutdown(reason, stayDown)
			}
		case e := <-p.in.children:
			p.onChild(ctx, e)
		case <-limit.C:
			return false
		}
	}
}
