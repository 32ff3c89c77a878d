package session

import (
	"errors"
	"sync"
	"time"

	"tund/internal/keys"
)

// mailbox holds commands until the loop takes them. It never blocks who posts.
type mailbox struct {
	notify chan struct{} // room for one: "there is something"

	mu    sync.Mutex
	queue []func() error
}

func (m *mailbox) post(command func() error) {
	m.mu.Lock()
	m.queue = append(m.queue, command)
	m.mu.Unlock()
	select {
	case m.notify <- struct{}{}:
	default:
	}
}

// take gives the oldest command, nil for none.
func (m *mailbox) take() func() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		return nil
	}
	command := m.queue[0]
	m.queue = m.queue[1:]
	return command
}

// Rekey asks for a new epoch, as soon as no other exchange is in flight and the session is
// not held. Several calls that wait are one. An [Exchanged] event tells the end; where the
// peer began a REKEY at the same time and won, it is that one's.
func (s *Session) Rekey() {
	s.commands.post(func() error {
		s.exchange.wantRekey = s.state < stateLeaving
		return nil
	})
}

// Reiv asks for the next IV generation in the same way. At the last generation a REKEY
// comes instead; before the first epoch of this session it fails.
func (s *Session) Reiv() {
	s.commands.post(func() error {
		s.exchange.wantReiv = s.state < stateLeaving
		return nil
	})
}

// Installed answers an [InstallKey] (g 0) or [InstallIV]. With an error it promises that
// the child does not use the key and never will: the peer is told to drop it, and the owner
// has to release the indexes.
func (s *Session) Installed(kid keys.KeyID, g keys.Generation, err error) {
	s.commands.post(func() error { return s.onInstalled(kid, g, err) })
}

// Confirmed tells that the child has opened a first packet with the key.
func (s *Session) Confirmed(kid keys.KeyID, g keys.Generation) {
	s.commands.post(func() error { return s.onConfirmed(kid, g) })
}

// Shutdown tells the peer that the tunnel ends and waits, for up to 3 s, for its CLOSE.
// Reason is for people.
func (s *Session) Shutdown(reason string, stayDown bool) {
	s.commands.post(func() error { return s.startLeaving(reason, stayDown) })
}

// Close ends the session with a CLOSE. Text is for people at the other end.
func (s *Session) Close(code CloseCode, text string) {
	s.commands.post(func() error {
		return &closeOrder{CloseError{Code: code, Text: text}}
	})
}

// Ping sends a PING; a [PongReceived] event with id tells of the answer. It is not sent
// while 64 others are without an answer, nor before the HELLO.
func (s *Session) Ping(id uint64) {
	s.commands.post(func() error { return s.ping(id, true) })
}

// Hold stops the starting of exchanges, by either side, until it is called with false: what
// the peer sends waits, and a REKEY among it is told by a [Wanted] event. An exchange that
// is in flight goes on to its end.
func (s *Session) Hold(on bool) {
	s.commands.post(func() error {
		s.exchange.held = on
		return nil
	})
}

// closeOrder is the end of a session that the owner asked for: no failure.
type closeOrder struct{ CloseError }

// Unwrap lets errors.As find the CLOSE that is to be sent.
func (c *closeOrder) Unwrap() error { return &c.CloseError }

func (s *Session) startLeaving(reason string, stayDown bool) error {
	if s.state == stateGreeting {
		return &closeOrder{CloseError{Code: CloseDisabled, Text: reason}}
	}
	if s.state == stateLeaving {
		return nil
	}
	s.transition(stateLeaving)
	s.leaving = time.Now().Add(shutdownLimit)
	s.exchange.wantRekey, s.exchange.wantReiv = false, false
	return s.send(Shutdown{Reason: fitText(reason), StayDown: stayDown})
}

// closedEvent translates the reason of the end.
func closedEvent(err error) Closed {
	var sent *CloseError
	var order *closeOrder
	switch {
	case errors.As(err, &order):
		return Closed{Code: order.Code, Remote: order.Remote}
	case errors.As(err, &sent):
		return Closed{Err: err, Code: sent.Code, Remote: sent.Remote}
	default:
		return Closed{Err: err}
	}
}
