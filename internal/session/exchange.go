package session

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"fmt"
	"io"
	"time"

	"tund/internal/keys"
	"tund/internal/wire"
)

// An exchange changes the keys (REKEY) or the IV (REIV) of both ends. One is in flight at a
// time. The picture is the same for both kinds.
//
//	initiator:  asked ──reply good──► installing ──Installed──► DONE sent, over
//	responder:                        installing ──Installed──► replied ──DONE──► over
//
// Whoever may hold a key that the other end may be sending with never drops it:
//   - The responder in "replied" ends the session when it waits too long; its receive key
//     stays with the owner. It goes only with an ABORT of the initiator.
//   - The initiator in "installing" has proof that the responder receives with the key. It
//     carries through, whatever comes, unless its owner says that the key is not in use.
//
// The chain key of an epoch takes its predecessor's place when the exchange is confirmed.
// The predecessor is kept until the exchange is over: an ABORT puts it back at both ends.

// How long an exchange may stand still. A responder may have to wait for room, which comes
// when an older slot is retired, 10 s after a newer one has come into use; an initiator waits
// longer than that for its reply, so that such an exchange succeeds.
const (
	replyLimit   = 20 * time.Second // initiator: for the reply
	installLimit = 12 * time.Second // responder: for its slot to be installed
	doneLimit    = 10 * time.Second // responder: for the end
	carryLimit   = doneLimit        // initiator: for its slot to be installed, since the responder waits
)

// limit is that of the step where x stands.
func (x *exchange) limit() time.Duration {
	switch {
	case x.step == stepAsked:
		return replyLimit
	case x.step == stepReplied:
		return doneLimit
	case x.initiator:
		return carryLimit
	default:
		return installLimit
	}
}

// step is where an exchange stands.
type step uint8

const (
	stepAsked step = iota
	stepInstalling
	stepReplied
)

// exchanges is what a session knows about all its exchanges.
type exchanges struct {
	chain    keys.Secret // chain key of the last epoch, at first the TLS exporter
	ours     Exchange    // the last number that we used
	theirs   Exchange    // the last number that the peer used
	epochs   numbers[keys.Epoch]
	ivs      numbers[keys.Generation] // of the present epoch
	keyID    keys.KeyID               // of the present epoch
	epoch    keys.Epoch               // the present epoch, 0 before the first
	inFlight *exchange
	deadline time.Time // of the one in flight, zero without

	wantRekey, wantReiv, held bool
	waiting                   []request // of the peer, at most one
}

// numbers are the epochs, or the IV generations of an epoch, that were ever mentioned.
type numbers[N ~uint32] struct {
	highest   N // in any request sent or received
	concluded N // of the exchanges that are over
}

func (n *numbers[N]) saw(number N)     { n.highest = max(n.highest, number) }
func (n *numbers[N]) conclude(numer N) { n.concluded = max(n.concluded, numer) }

// request is a REKEY or REIV of the peer, with its bytes.
type request struct {
	message Message
	data    []byte
}

func (r request) id() Exchange {
	switch m := r.message.(type) {
	case Rekey:
		return m.Exchange
	case Reiv:
		return m.Exchange
	default:
		panic("session: internal error: no request: " + m.Type().String())
	}
}

func (r request) kind() Kind {
	if r.message.Type() == TypeRekey {
		return KindRekey
	}
	return KindReiv
}

// exchange is the one in flight.
type exchange struct {
	kind       Kind
	initiator  bool
	id         Exchange
	step       step
	epoch      keys.Epoch
	generation keys.Generation
	keyID      keys.KeyID
	index      wire.Index // to be released by us; 0 once the owner has it
	reply      Message    // of the responder, to be sent when the key is installed
	agreement  agreement
	confirmed  bool // responder: the initiator is known to send with it
}

// agreement is the secret part of a REKEY. Like all that holds a secret here it is written
// as its name alone: package fmt can't call the methods of unexported fields.
type agreement struct {
	request  []byte // the REKEY as on the wire
	x25519   *ecdh.PrivateKey
	mlkem    *mlkem.DecapsulationKey768
	psk      *keys.Secret
	next     keys.Secret // the new chain key
	previous keys.Secret // the one before it, once next has taken its place
	tag      [32]byte    // for REKEY_DONE: of the initiator
	swapped  bool
}

// wipe drops what must not outlive the exchange.
func (a *agreement) wipe() {
	a.x25519, a.mlkem = nil, nil // neither can be overwritten from outside its package
	if a.psk != nil {
		a.psk.Wipe()
	}
	a.next.Wipe()
	a.previous.Wipe()
}

// Format hides the chain key.
func (exchanges) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[exchanges]") }

// Format hides the agreement.
func (x exchange) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "%s %d", x.kind, uint32(x.id)) }

// Format hides the secrets.
func (agreement) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[agreement]") }

// proceed starts the next exchange where nothing is in its way. What the peer has asked for
// comes first, and serves our own wish for the same as well.
func (s *Session) proceed() error {
	e := &s.exchange
	for s.state == stateOpen && e.inFlight == nil && !e.held {
		var err error
		switch {
		case len(e.waiting) > 0:
			r := e.waiting[0]
			e.waiting = e.waiting[1:]
			err = s.answer(r)
		case e.wantRekey:
			err = s.startRekey()
		case e.wantReiv:
			err = s.startReiv()
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// onRequest takes the peer's REKEY or REIV.
func (s *Session) onRequest(r request) error {
	e := &s.exchange
	if s.state == stateLeaving {
		return nil
	}
	if err := s.noteRequest(r); err != nil {
		return s.protocolError(err)
	}
	x := e.inFlight
	switch {
	case x == nil:
	case x.step == stepReplied:
		return s.protocolError(fmt.Errorf("%s before the end of the exchange before", r.message.Type()))
	case x.step == stepInstalling: // it waits until that is over
	case s.wins(r, x):
		s.giveWay()
	default:
		return nil // the peer will find ours and give way
	}
	if len(e.waiting) > 0 {
		return s.protocolError(fmt.Errorf("%s while another one waits", r.message.Type()))
	}
	e.waiting = append(e.waiting, r)
	if e.held && r.kind() == KindRekey {
		s.emit(Wanted{})
	}
	return nil
}

// noteRequest checks the number and remembers what was mentioned.
func (s *Session) noteRequest(r request) error {
	e := &s.exchange
	id := r.id()
	if s.isOurs(id) || id <= e.theirs {
		return fmt.Errorf("%s with exchange %d", r.message.Type(), id)
	}
	e.theirs = id
	switch m := r.message.(type) {
	case Rekey:
		e.epochs.saw(m.Epoch)
	case Reiv:
		if m.Epoch == e.epoch {
			e.ivs.saw(m.Generation)
		}
	}
	return nil
}

// isOurs tells by the number who began an exchange: odd ones are the dialler's.
func (s *Session) isOurs(id Exchange) bool { return (id%2 == 1) == s.Dialled() }

// nextExchange numbers an exchange of our own.
func (s *Session) nextExchange() Exchange {
	e := &s.exchange
	switch {
	case e.ours != 0:
		e.ours += 2
	case s.Dialled():
		e.ours = 1
	default:
		e.ours = 2
	}
	return e.ours
}

// wins says whether the peer's request wins over our own, which it has crossed: REKEY beats
// REIV, of two alike the smaller public key's wins.
func (s *Session) wins(theirs request, ours *exchange) bool {
	if theirs.kind() != ours.kind {
		return theirs.kind() == KindRekey
	}
	return s.peer.Compare(s.self) < 0
}

// giveWay forgets our own request. Nothing is reported: the winner's end will be.
func (s *Session) giveWay() {
	x := s.exchange.inFlight
	s.exchange.inFlight, s.exchange.deadline = nil, time.Time{}
	x.agreement.wipe()
	s.release(x)
}

// answer begins the responder's part.
func (s *Session) answer(r request) error {
	e := &s.exchange
	x := &exchange{kind: r.kind(), id: r.id(), step: stepInstalling}
	e.wantReiv = false
	e.inFlight = x
	s.progress()
	if m, ok := r.message.(Rekey); ok {
		e.wantRekey = false
		return s.answerRekey(x, m, r.data)
	}
	return s.answerReiv(x, r.message.(Reiv))
}

// progress gives the exchange in flight its time anew.
func (s *Session) progress() { s.exchange.deadline = time.Now().Add(s.exchange.inFlight.limit()) }

// handOver gives the key of x to the owner, and its index with it.
func (s *Session) handOver(x *exchange, event EventBody) {
	x.step = stepInstalling
	if s.emit(event) {
		x.index = 0
	}
	s.progress()
}

func (s *Session) onInstalled(kid keys.KeyID, g keys.Generation, failure error) error {
	x := s.exchange.inFlight
	if x == nil || x.step != stepInstalling || x.keyID != kid || x.generation != g {
		return nil // of an exchange that was aborted meanwhile
	}
	if failure != nil {
		s.revert(x)
		return s.abort(AbortInstall, fmt.Sprintf("key not installed: %v", failure))
	}
	if x.initiator {
		if err := s.send(x.done()); err != nil {
			return err
		}
		s.conclude(x, nil)
		return nil
	}
	x.step = stepReplied
	s.progress()
	return s.send(x.reply)
}

// done is the initiator's last message.
func (x *exchange) done() Message {
	if x.kind == KindRekey {
		return RekeyDone{Exchange: x.id, Tag: x.agreement.tag}
	}
	return ReivDone{Exchange: x.id, Epoch: x.epoch, Generation: x.generation}
}

// onConfirmed is as good a proof as DONE, but the exchange goes on until DONE has come: the
// peer is in it until then, too.
func (s *Session) onConfirmed(kid keys.KeyID, g keys.Generation) error {
	x := s.exchange.inFlight
	if x == nil || x.initiator || x.step != stepReplied || x.keyID != kid || x.generation != g {
		return nil
	}
	s.advance(x)
	x.confirmed = true
	s.progress()
	return nil
}

// replied finds the exchange that a DONE ends. None and no error: it was over before.
func (s *Session) replied(id Exchange, kind Kind) (*exchange, error) {
	x := s.exchange.inFlight
	if x != nil && x.id == id && !x.initiator && x.kind == kind && x.step == stepReplied {
		return x, nil
	}
	if s.isOurs(id) || id > s.exchange.theirs || x != nil && x.id == id {
		return nil, s.protocolError(fmt.Errorf("end of exchange %d, which is not open", id))
	}
	return nil, nil
}

// over ends the responder's part: DONE has come and was good.
func (s *Session) over(x *exchange) error {
	s.advance(x)
	s.emit(Activate{KeyID: x.keyID, Generation: x.generation})
	s.conclude(x, nil)
	return nil
}

// asked finds the exchange that a reply answers. None and no error: it was over before, and
// the responder has been told, so that it does not wait for the end.
func (s *Session) asked(id Exchange, kind Kind) (*exchange, error) {
	x := s.exchange.inFlight
	if x != nil && x.id == id && x.kind == kind && x.step == stepAsked {
		return x, nil
	}
	if !s.isOurs(id) || id > s.exchange.ours || x != nil && x.id == id {
		return nil, s.protocolError(fmt.Errorf("reply to exchange %d, which is not open", id))
	}
	return nil, s.send(Abort{Exchange: id, Reason: AbortGone, Text: "the exchange was over before its reply came"})
}
