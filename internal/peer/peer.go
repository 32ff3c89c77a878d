// Package peer joins one configured peer, its control session and its child.
//
// A Peer is the only one that knows all three: it opens the tunnel (device, socket,
// addresses, child), dials or accepts sessions, carries keys from the session to
// the child through its pipe, keeps the times (rekey, retirement, health), and
// answers the operator. It runs in the parent.
//
// All state is owned by the Run goroutine, a single select loop. Sessions, dials
// and the child's supervisor run in goroutines of their own and report through
// channels; they are told what to do by methods that do not block. Exported methods
// are safe for concurrent use: they hand a function to the loop.
package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/handover"
	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/session"
	"tund/internal/supervisor"
)

// Times that no key of the configuration sets.
const (
	retireGrace  = 10 * time.Second // protocol.md: from the first authentic packet in a newer key
	drain        = time.Second      // protocol.md: from SHUTDOWN to the end of all keys
	renewAfter   = 24 * time.Hour   // protocol.md: age of a TLS session
	renewPause   = time.Minute      // between tries to replace one that is so old
	goodbyeLimit = 3 * time.Second  // how long a SHUTDOWN may wait for its CLOSE
	suspendLook  = 30 * time.Second // Go's timers stand still in a suspend: look at the clock this often
	carrierGrace = 5 * time.Second  // how long an inherited device keeps its carrier without a key
)

// ErrStopped is returned by commands to a peer that has ended.
var ErrStopped = errors.New("peer has been removed")

// errClosed answers who waits for something that a closed tunnel can't bring.
var errClosed = errors.New("the tunnel has been closed")

// Node is what all peers of one tund share. Its methods are safe for concurrent
// use and do not block.
type Node interface {
	// Identity is the node's present key pair.
	Identity() *keys.Identity
	// Instance identifies this run of tund.
	Instance() [16]byte
	// AEADs lists the node's ciphers in order of preference.
	AEADs() []keys.AEAD
	// Indexes allocates the receive indexes of all peers.
	Indexes() *keys.Indexes
	// Local is the address that the data socket of a peer at remote binds to.
	Local(remote netip.Addr) netip.AddrPort
	// Reachable returns an error when a configured route would swallow the way to addr.
	Reachable(addr netip.Addr) error
	// Located notes where a peer is expected: the addresses that a name of its endpoints resolves
	// to, or with an empty name where its session comes from. Called from several goroutines.
	Located(peer, name string, addrs []netip.Addr)
	// OuterMTU is the MTU of the route to addr.
	OuterMTU(addr netip.Addr) int
	// Hold remembers until a reboot why a peer stays down; an empty reason forgets it.
	Hold(peer, reason string) error
	// Held returns what Hold was last given.
	Held(peer string) string
}

// Options is what New needs.
type Options struct {
	Log    *slog.Logger
	Config config.Peer
	Node   Node
	Open   Opener               // makes the tunnel; nil: OpenTunnel
	Dial   DialFunc             // nil: TCP and TLS by session.Dialer
	Now    func() time.Duration // CLOCK_BOOTTIME; nil: the system's
	// Changed takes a word, if it has room, after each change of what State returns; may be nil.
	Changed chan<- struct{}
	// Inherited is what an earlier tund has left of the tunnel; nil: nothing. The peer frees
	// what it does not use.
	Inherited *handover.Inherited
}

// Peer is one configured peer. Make it with New.
type Peer struct {
	o   Options
	log *slog.Logger
	in  inbox
	wg  sync.WaitGroup // sessions and dials

	inherited *handover.Inherited // until the tunnel is opened
	takeover  takeover
	left      bool // HandOver has ended all; TakeBack, or the end, follows

	cfg       config.Peer
	held      string          // why it was ordered down; empty: it was not
	moving    bool            // Release has made room for other peers; Update follows
	had       bool            // there was a tunnel to make room
	tunnel    Tunnel          // nil while nothing is held
	applied   netcfg.Settings // what the device has
	child     child
	sources   sources
	loss      loss
	ring      ring
	links     links
	dial      dial
	twins     twins
	admission admission
	agenda    agenda
	wait      waiters
	view      view

	psk   atomic.Pointer[keys.Secret] // what sessions ask for
	keys  atomic.Uint64               // last key id given out
	shown atomic.Value                // what State returns
}

// inbox is everything that can wake the Run goroutine.
type inbox struct {
	commands chan func(context.Context)
	sessions chan session.Event
	children chan supervisor.Event
	dials    chan dialEvent
	back     chan handover.Peer
	ended    chan struct{} // closed when Run has returned
}

// New returns a peer that is not running yet.
func New(o Options) *Peer {
	if o.Dial == nil {
		o.Dial = dialSession
	}
	if o.Now == nil {
		o.Now = boottime
	}
	p := &Peer{
		o:   o,
		log: o.Log.With("peer", o.Config.Name),
		cfg: o.Config, inherited: o.Inherited,
		in: inbox{
			commands: make(chan func(context.Context)),
			sessions: make(chan session.Event),
			children: make(chan supervisor.Event),
			dials:    make(chan dialEvent),
			back:     make(chan handover.Peer),
			ended:    make(chan struct{}),
		},
	}
	p.admission = newAdmission()
	p.dial.pace = rate.NewLimiter(sessionsPerSecond, sessionBurst)
	p.held = o.Node.Held(o.Config.Name)
	p.ring.release = o.Node.Indexes().Release
	p.view.since = o.Now()
	p.dial.step = ctl.StateConnecting
	p.psk.Store(p.cfg.PresharedKey)
	return p
}

// Name returns the peer's name in the configuration.
func (p *Peer) Name() string { return p.o.Config.Name }

// Format writes the name, for every verb: package fmt would follow the pointer to the
// pre-shared key for a verb that does not fit, and can't call its methods.
func (p *Peer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "peer "+p.Name()) }

// Run brings the peer up and keeps it so until ctx ends; then it says goodbye to
// the other side, with ctx's cause as the reason, and frees everything. After HandOver it
// does neither.
func (p *Peer) Run(ctx context.Context) error {
	defer close(p.in.ended)
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer p.wg.Wait()
	defer cancel()
	p.open()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if p.left && !p.linger(ctx) {
			return nil
		}
		p.refresh()
		timer.Reset(p.agenda.next(p.o.Now(), suspendLook))
		select {
		case <-ctx.Done():
			p.goodbye(inner, context.Cause(ctx).Error(), false)
			p.close()
			return nil
		case f := <-p.in.commands:
			f(inner)
		case e := <-p.in.sessions:
			p.onSession(e)
		case e := <-p.in.children:
			p.onChild(inner, e)
		case e := <-p.in.dials:
			p.onDial(inner, e)
		case <-timer.C:
			p.onTime(inner)
		}
	}
}

// do runs f in the Run goroutine and waits for it.
func (p *Peer) do(ctx context.Context, f func(context.Context)) error {
	done := make(chan struct{})
	wrapped := func(inner context.Context) { defer close(done); f(inner) }
	select {
	case p.in.commands <- wrapped:
		<-done
		return nil
	case <-p.in.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// onTime does what is due.
func (p *Peer) onTime(ctx context.Context) {
	for {
		t, ok := p.agenda.take(p.o.Now())
		if !ok {
			return
		}
		switch t {
		case taskOpen:
			p.open()
		case taskDial:
			p.startDial(ctx)
		case taskExchange:
			p.startExchange()
		case taskRetire:
			p.retire()
		case taskWipe:
			p.afterDrain()
		case taskDecide:
			p.decide()
		case taskRenew:
			p.agenda.set(taskRenew, p.o.Now()+renewPause) // until the new session is in force
			p.startDial(ctx)
		case taskConnect:
			p.point()
		case taskCarrier, taskCount: // refresh sees to the carrier
		}
	}
}
