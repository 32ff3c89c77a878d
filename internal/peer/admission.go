package peer

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"tund/internal/session"
)

// What protocol.md 2.7 grants a peer that has proved its identity.
const (
	sessionsPerSecond = 4
	sessionBurst      = 60
	maxGreeting       = 2 // sessions that it has not sent its HELLO on
	maxRefusing       = 2 // connections that are told why they are refused, at a time
	firstPenalty      = 30 * time.Second
	lastPenalty       = 10 * time.Minute
	forgive           = time.Hour // without a breach, after which the next one is a first
)

// admission keeps a peer within its bounds, whatever it does with its key. Accept, which is
// called from any goroutine, uses the first four; all else belongs to the Run goroutine.
type admission struct {
	allowance *session.Allowance // of messages, for all sessions
	sessions  *rate.Limiter      // that it may dial
	shut      atomic.Int64       // until when none is accepted, on the peer's clock
	refusing  chan struct{}

	penalty  time.Duration // of the last breach
	breached time.Duration // when that was
}

func newAdmission() admission {
	return admission{
		allowance: session.NewAllowance(),
		sessions:  rate.NewLimiter(sessionsPerSecond, sessionBurst),
		refusing:  make(chan struct{}, maxRefusing),
	}
}

// Accept takes over a connection on which the peer has proved its identity.
func (p *Peer) Accept(ctx context.Context, conn *session.Conn) {
	if why := p.refusal(); why != "" {
		p.refuse(ctx, conn, why)
		return
	}
	taken := false
	_ = p.do(ctx, func(inner context.Context) {
		if taken = !p.moving; taken {
			p.dismissGreeting()
			p.attach(inner, conn, "")
		}
	})
	if !taken { // the other side tries again soon
		_ = conn.Close()
	}
}

// refusal says why one more session of the peer is not accepted now.
func (p *Peer) refusal() string {
	if wait := time.Duration(p.admission.shut.Load()) - p.o.Now(); wait > 0 {
		return fmt.Sprintf("no session for another %v: the last one exceeded its limits", wait.Round(time.Second))
	}
	if !p.admission.sessions.Allow() {
		return fmt.Sprintf("too many sessions: at most %d at once and %d a second", sessionBurst, sessionsPerSecond)
	}
	return ""
}

// refuse says so to a few; more are not worth a goroutine.
func (p *Peer) refuse(ctx context.Context, conn *session.Conn, why string) {
	select {
	case p.admission.refusing <- struct{}{}:
		conn.Refuse(ctx, session.CloseLimit, why)
		<-p.admission.refusing
	default:
		_ = conn.Close()
	}
}

// dismissGreeting makes room for a new session where too many wait for their HELLO: the
// oldest of them goes.
func (p *Peer) dismissGreeting() {
	var greeting []*link
	for _, l := range p.links.open {
		if !l.conn.Dialled() && l.established.At.IsZero() {
			greeting = append(greeting, l)
		}
	}
	for len(greeting) >= maxGreeting {
		p.abandon(greeting[0])
		greeting = greeting[1:]
	}
}

// breach shuts the peer out for a while: it has sent what no implementation of the protocol
// sends.
func (p *Peer) breach(err error) {
	a, now := &p.admission, p.o.Now()
	if a.penalty == 0 || now-a.breached > forgive {
		a.penalty = firstPenalty
	} else {
		a.penalty = min(2*a.penalty, lastPenalty)
	}
	a.breached = now
	a.shut.Store(int64(now + a.penalty))
	p.log.Warn("peer exceeded its limits", "err", err, "restart_in", a.penalty)
	for _, l := range p.links.all() {
		l.s.Close(session.CloseLimit, "another session of this node exceeded its limits")
	}
}

// shutFor returns for how long the peer is shut out.
func (a *admission) shutFor(now time.Duration) time.Duration {
	return max(0, time.Duration(a.shut.Load())-now)
}
