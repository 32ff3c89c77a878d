package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
	"tund/internal/session"
)

// Limits of one try to reach one endpoint.
const (
	resolveLimit = 5 * time.Second
	connectLimit = 10 * time.Second
	// refusedPause, and up to as much again, passes after "I am to stay down". Who says up
	// there waits for it, where this side is the one that dials.
	refusedPause = 10 * time.Second
	// duplicatePause gives the session that goes on time to be established here.
	duplicatePause = time.Second
	// eager is how long the first pause stays the longest after a session in use was
	// lost: a tund that was killed is back by then.
	eager = 2 * time.Second
)

// DialFunc reaches the peer at one address.
type DialFunc func(ctx context.Context, id *keys.Identity, addr netip.AddrPort, peer keys.PublicKey, progress func(session.State)) (*session.Conn, error)

func dialSession(ctx context.Context, id *keys.Identity, addr netip.AddrPort, peer keys.PublicKey, progress func(session.State)) (*session.Conn, error) {
	d := session.Dialer{Identity: id}
	return d.Dial(ctx, addr, peer, progress)
}

// dial is the state of reaching out to the peer.
type dial struct {
	step     ctl.State // what is being done; connecting while waiting
	cancel   context.CancelFunc
	try      uint64 // number of the present try; events of others are stale
	failures int
	eager    time.Duration // until then pauses do not grow
	pace     *rate.Limiter // what the other side grants; see protocol.md 2.7
}

// dialEvent is a step, or with end set the outcome, of a try.
type dialEvent struct {
	try      uint64
	step     ctl.State
	end      bool
	endpoint string
	conn     *session.Conn
	err      error
}

// stop gives up the present try.
func (d *dial) stop() {
	if d.cancel != nil {
		d.cancel()
		d.cancel = nil
	}
	d.step = ctl.StateConnecting
	d.try++
}

// restart gives up the present try and forgets the failures.
func (d *dial) restart() {
	d.stop()
	d.failures = 0
}

// startDial begins a try at all endpoints in turn, unless one is under way or there
// is nothing to dial for.
func (p *Peer) startDial(ctx context.Context) {
	p.agenda.clear(taskDial)
	if p.tunnel == nil || p.held != "" || p.child.number == 0 || len(p.cfg.Endpoints) == 0 || p.dial.cancel != nil {
		return
	}
	p.dial.try++
	inner, cancel := context.WithCancel(ctx)
	p.dial.cancel = cancel
	t := try{
		number:    p.dial.try,
		endpoints: slices.Clone(p.cfg.Endpoints),
		peer:      p.cfg.PublicKey,
		identity:  p.o.Node.Identity(),
		reachable: p.o.Node.Reachable,
		lookup:    net.DefaultResolver.LookupNetIP,
		dial:      p.o.Dial,
		located:   func(name string, addrs []netip.Addr) { p.o.Node.Located(p.Name(), name, addrs) },
		events:    p.in.dials,
	}
	p.wg.Go(func() { // ends with the try, or when it is stopped
		defer cancel()
		t.run(inner)
	})
}

// onDial handles a step or the outcome of a try.
func (p *Peer) onDial(ctx context.Context, e dialEvent) {
	if e.try != p.dial.try {
		if e.conn != nil {
			_ = e.conn.Close()
		}
		return
	}
	if !e.end {
		p.dial.step = e.step
		return
	}
	p.dial.stop()
	if e.err != nil {
		p.failed(e.err.Error())
		p.log.Log(ctx, first(&p.view.unreached), "dial failed", "err", e.err)
		p.planDial(0)
		return
	}
	p.attach(ctx, e.conn, e.endpoint)
}

// planDial sets the time of the next try. code is how the last session ended.
func (p *Peer) planDial(code session.CloseCode) {
	var pause time.Duration
	switch code {
	case session.CloseDuplicate:
		pause = duplicatePause
	case session.CloseStayDown, session.CloseDisabled, session.CloseLimit, session.CloseSameKey:
		pause = refusedPause + rand.N(refusedPause)
	default:
		if p.dial.failures == 0 || p.o.Now() >= p.dial.eager {
			p.dial.failures++
		}
		pause = session.Backoff(p.dial.failures, rand.Float64())
	}
	pause = max(pause, p.dial.pace.Reserve().Delay(), p.admission.shutFor(p.o.Now()))
	p.agenda.set(taskDial, p.o.Now()+pause)
}

// dialledTo tells whether the main session was dialled to one of the endpoints, or
// was not dialled by us at all.
func (p *Peer) dialledTo(endpoints []config.Endpoint) bool {
	l := p.links.main
	if l == nil {
		return false
	}
	return l.endpoint == "" || slices.ContainsFunc(endpoints, func(e config.Endpoint) bool { return e.String() == l.endpoint })
}

// try is one round over a peer's endpoints.
type try struct {
	number    uint64
	endpoints []config.Endpoint
	peer      keys.PublicKey
	identity  *keys.Identity
	reachable func(netip.Addr) error
	lookup    func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dial      DialFunc
	located   func(name string, addrs []netip.Addr)
	events    chan<- dialEvent
}

// run tries each address of each endpoint until one answers.
func (t *try) run(ctx context.Context) {
	var errs []error
	for _, e := range t.endpoints {
		conn, err := t.endpoint(ctx, e)
		if err == nil {
			t.report(ctx, dialEvent{end: true, endpoint: e.String(), conn: conn})
			return
		}
		errs = append(errs, fmt.Errorf("endpoint %s: %w", e, err))
	}
	t.report(ctx, dialEvent{end: true, err: errors.Join(errs...)})
}

func (t *try) endpoint(ctx context.Context, e config.Endpoint) (*session.Conn, error) {
	addrs, err := t.resolve(ctx, e)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, addr := range addrs {
		conn, err := t.address(ctx, netip.AddrPortFrom(addr, e.Port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (t *try) resolve(ctx context.Context, e config.Endpoint) ([]netip.Addr, error) {
	if addr, ok := e.Addr(); ok {
		return []netip.Addr{addr}, nil
	}
	t.report(ctx, dialEvent{step: ctl.StateResolving})
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	addrs, err := t.lookup(ctx, "ip", e.Host)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	t.located(e.Host, addrs)
	return addrs, nil
}

func (t *try) address(ctx context.Context, addr netip.AddrPort) (*session.Conn, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if err := t.reachable(addr.Addr()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	return t.dial(ctx, t.identity, addr, t.peer, func(s session.State) {
		t.report(ctx, dialEvent{step: stepOf(s)})
	})
}

func stepOf(s session.State) ctl.State {
	if s == session.Authenticating {
		return ctl.StateAuthenticating
	}
	return ctl.StateConnecting
}

// report hands e to the peer; a connection that nobody takes is closed.
func (t *try) report(ctx context.Context, e dialEvent) {
	e.try = t.number
	select {
	case t.events <- e:
	case <-ctx.Done():
		if e.conn != nil {
			_ = e.conn.Close()
		}
	}
}
