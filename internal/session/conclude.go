package session

import (
	"errors"
	"fmt"
	"time"

	"tund/internal/keys"
)

// settleLimit is how long the end of a session waits for the owner's word on a key that
// was handed over, so that the event about it can tell the truth.
const settleLimit = time.Second

func (s *Session) onAbort(m Abort) error {
	e := &s.exchange
	failure := &AbortError{Reason: m.Reason, Text: m.Text, Remote: true}
	x := e.inFlight
	switch {
	case x != nil && x.id == m.Exchange:
		return s.onAborted(x, failure)
	case len(e.waiting) > 0 && e.waiting[0].id() == m.Exchange:
		s.forget(failure)
		return nil
	case s.isOurs(m.Exchange) && m.Exchange <= e.ours, !s.isOurs(m.Exchange) && m.Exchange <= e.theirs:
		return nil // it was over before
	default:
		return s.protocolError(fmt.Errorf("ABORT of exchange %d, which never was", m.Exchange))
	}
}

func (s *Session) onAborted(x *exchange, failure error) error {
	if x.initiator && x.step == stepInstalling {
		return nil // the reply was good: it is carried through
	}
	s.revert(x)
	s.drop(x)
	s.conclude(x, failure)
	return nil
}

// onStandstill ends an exchange that has not moved for too long, and with it the session where
// dropping the key could cut off a peer that sends with it.
func (s *Session) onStandstill() error {
	x := s.exchange.inFlight
	if x.step == stepReplied || x.initiator && x.step == stepInstalling {
		return &CloseError{Code: CloseTimeout, Text: fmt.Sprintf("%s not concluded within %v", x.kind, x.limit())}
	}
	s.drop(x)
	return s.abort(AbortTimeout, fmt.Sprintf("no progress within %v", x.limit()))
}

// abort gives the exchange in flight up and tells the peer. The session goes on.
func (s *Session) abort(reason AbortReason, text string) error {
	x := s.exchange.inFlight
	failure := &AbortError{Reason: reason, Text: fitText(text)}
	s.conclude(x, failure)
	return s.send(Abort{Exchange: x.id, Reason: reason, Text: failure.Text})
}

// drop takes a key back from the owner that the peer has not used and will not use.
func (s *Session) drop(x *exchange) {
	if !x.initiator && x.keyID != 0 && x.index == 0 && !x.confirmed {
		s.emit(Drop{KeyID: x.keyID, Generation: x.generation})
	}
}

// advance puts the new chain key in place of the one before.
func (s *Session) advance(x *exchange) {
	if x.kind != KindRekey || x.agreement.swapped {
		return
	}
	x.agreement.previous = s.exchange.chain
	s.exchange.chain = x.agreement.next
	x.agreement.swapped = true
}

// revert takes advance back.
func (s *Session) revert(x *exchange) {
	if x.agreement.swapped {
		s.exchange.chain = x.agreement.previous
		x.agreement.swapped = false
	}
}

// conclude ends the exchange in flight, well or not, and reports it.
func (s *Session) conclude(x *exchange, failure error) {
	e := &s.exchange
	e.inFlight, e.deadline = nil, time.Time{}
	s.release(x)
	x.agreement.wipe()
	result := Exchanged{Kind: x.kind, Initiator: x.initiator, Epoch: x.epoch, Generation: x.generation, Err: failure}
	if x.kind == KindRekey {
		e.epochs.conclude(x.epoch)
	} else if x.epoch == e.epoch {
		e.ivs.conclude(x.generation)
	}
	result.Reason = reasonOf(failure)
	if failure == nil {
		result.KeyID = x.keyID
		if x.kind == KindRekey {
			e.keyID, e.epoch = x.keyID, x.epoch
			e.ivs = numbers[keys.Generation]{}
		}
	}
	s.emit(result)
}

// release gives an index back that the owner has never had.
func (s *Session) release(x *exchange) {
	if x.index != 0 {
		s.o.Indexes.Release(x.index)
		x.index = 0
	}
}

// forget ends the request of the peer that waits.
func (s *Session) forget(failure error) {
	r := s.exchange.waiting[0]
	s.exchange.waiting = s.exchange.waiting[1:]
	s.emit(Exchanged{Kind: r.kind(), Err: failure, Reason: reasonOf(failure)})
}

// settle brings the exchange in flight to its end when the session ends. A key whose reply
// was good is carried through; no key that the peer may use is dropped.
func (s *Session) settle(end error) {
	s.transition(stateClosed)
	e := &s.exchange
	failure := fmt.Errorf("session ended: %w", end)
	for len(e.waiting) > 0 {
		s.forget(failure)
	}
	x := e.inFlight
	if x != nil && x.initiator && x.step == stepInstalling {
		s.awaitInstalled()
		failure = fmt.Errorf("key not acknowledged: %w", failure)
	}
	if e.inFlight == nil {
		return
	}
	if x.step == stepInstalling {
		s.drop(x)
	}
	s.conclude(x, failure)
}

func (s *Session) awaitInstalled() {
	limit := time.NewTimer(settleLimit)
	defer limit.Stop()
	for {
		for command := s.commands.take(); command != nil; command = s.commands.take() {
			_ = command() // the session is over, whatever it says
		}
		if s.exchange.inFlight == nil {
			return
		}
		select {
		case <-s.commands.notify:
		case <-limit.C:
			return
		case <-s.ctx.Done():
			return
		}
	}
}

func reasonOf(failure error) AbortReason {
	if aborted, ok := errors.AsType[*AbortError](failure); ok {
		return aborted.Reason
	}
	return 0
}
