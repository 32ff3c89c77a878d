package session

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"
)

// liveness watches whether the peer is there: any message shows it. The time of the last
// one is set by the reader, all else belongs to the loop.
type liveness struct {
	last     atomic.Pointer[time.Time]
	nextPing time.Time
	count    uint64
	sent     []sentPing // without an answer; answers come in order
}

type sentPing struct {
	data  [8]byte
	id    uint64
	asked bool // by the owner
}

func (l *liveness) heard(now time.Time) { l.last.Store(&now) }

func (l *liveness) dead(now time.Time) bool { return now.Sub(*l.last.Load()) >= deadLimit }

func (l *liveness) pingDue(now time.Time) bool { return !now.Before(l.nextPing) }

// next is when one of the two above may become true.
func (l *liveness) next() time.Time {
	dead := l.last.Load().Add(deadLimit)
	if l.nextPing.Before(dead) {
		return l.nextPing
	}
	return dead
}

// ping sends a PING, of our own accord or because the owner asked.
func (s *Session) ping(id uint64, asked bool) error {
	l := &s.live
	if !asked {
		l.nextPing = time.Now().Add(pingInterval)
	}
	if s.state == stateGreeting || s.state == stateClosed || len(l.sent) >= maxPings {
		return nil
	}
	l.count++
	p := sentPing{id: id, asked: asked}
	binary.BigEndian.PutUint64(p.data[:], l.count)
	l.sent = append(l.sent, p)
	return s.send(Ping{Data: p.data})
}

func (s *Session) onPong(m Pong) error {
	l := &s.live
	if len(l.sent) == 0 || l.sent[0].data != m.Data {
		return s.protocolError(errors.New("PONG without a PING"))
	}
	p := l.sent[0]
	l.sent = l.sent[1:]
	if p.asked {
		s.emit(PongReceived{ID: p.id})
	}
	return nil
}
