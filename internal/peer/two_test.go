package peer_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/config"
	"tund/internal/keys"
	"tund/internal/peer"
	"tund/internal/session"
)

// two is a pair of peers that are each other's other side: "left" dials, "right" is
// dialled, or both dial.
type two struct {
	t     *testing.T
	nodes [2]*fakeNode
	peers [2]*peer.Peer
	wires wirePair
	logs  [2]*logs
	clock [2]time.Time // where a side's clock begins
	stop  [2]context.CancelCauseFunc
	ended [2]chan struct{}
	off   bool // the other side can't be dialled
	conns []*session.Conn
	mu    sync.Mutex

	latency func() time.Duration // of what is sent over a session; nil: none
	late    [2]time.Duration     // how long a side's dials take
	dialled [2]netip.AddrPort    // what a side has dialled last
	gagged  atomic.Pointer[[]net.Conn]
	relays  []net.Conn
	dumb    atomic.Bool                                // nothing passes over new sessions
	cuts    atomic.Pointer[func(session.Message) bool] // the messages instead of which a session is reset
}

// cutAt resets each session instead of passing a message for which f is true.
func (w *two) cutAt(f func(session.Message) bool) {
	w.cuts.Store(&f)
}

func (w *two) isCut(frame []byte) bool {
	f := w.cuts.Load()
	if f == nil || len(frame) < 4 {
		return false
	}
	m, err := session.Decode(frame[4:])
	return err == nil && (*f)(m)
}

func (w *two) gagNew(on bool) { w.dumb.Store(on) }

// gag swallows from now on all that is sent over the sessions of now.
func (w *two) gag() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := slices.Clone(w.relays)
	w.gagged.Store(&now)
}

func (w *two) isGagged(c net.Conn) bool {
	gagged := w.gagged.Load()
	return gagged != nil && slices.Contains(*gagged, c)
}

// slow gives the far end of c, over which everything comes later.
func (w *two) slow(c net.Conn) net.Conn {
	near, far := net.Pipe()
	w.relays = append(w.relays, c, near)
	go w.carry(c, near)
	go w.carry(near, c)
	return far
}

// carry ends, and ends both, with either of the two.
func (w *two) carry(from, to net.Conn) {
	defer func() { _ = errors.Join(from.Close(), to.Close()) }()
	dumb := w.dumb.Load()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		time.Sleep(w.latency())
		if dumb || w.isGagged(from) {
			continue
		}
		if w.isCut(buffer[:n]) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func newTwo(t *testing.T, adjust func(side int, c *config.Peer)) *two {
	w := &two{t: t}
	for side := range 2 {
		w.nodes[side] = newFakeNode(byte(side + 1))
	}
	for side := range 2 {
		c := config.Peer{
			Name: "other", PublicKey: w.nodes[1-side].identity.Public(), Mode: config.ModeTUN, Interface: "tun-other",
			RekeyInterval: 2 * time.Minute, Keepalive: 25 * time.Second, KeyLifetime: time.Hour,
			Enabled: true, AcceptStayDown: true,
		}
		if side == 0 {
			c.Endpoints = []config.Endpoint{{Host: "192.0.2.2", Port: 7900}}
		}
		if adjust != nil {
			adjust(side, &c)
		}
		w.peers[side] = w.newPeer(side, c)
	}
	return w
}

func (w *two) newPeer(side int, c config.Peer) *peer.Peer {
	start := time.Now()
	w.clock[side] = start
	w.logs[side] = &logs{}
	return peer.New(peer.Options{
		Log: slog.New(w.logs[side]), Config: c, Node: w.nodes[side],
		Open: w.wires.opener(side),
		Dial: func(ctx context.Context, _ *keys.Identity, addr netip.AddrPort, _ keys.PublicKey, progress func(session.State)) (*session.Conn, error) {
			progress(session.Connecting)
			w.note(side, addr)
			return w.connect(ctx, side)
		},
		Now: func() time.Duration { return time.Since(start) },
	})
}

// takes makes all that is sent over a session, and all that a child tells, take d.
func (w *two) takes(d time.Duration) {
	w.latency = func() time.Duration { return d }
	w.wires.delay = func(int) time.Duration { return d }
}

func (w *two) note(side int, addr netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialled[side] = addr
}

func (w *two) lastDialled(side int) netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialled[side]
}

// connect is a dial that succeeds at once.
func (w *two) connect(ctx context.Context, side int) (*session.Conn, error) {
	time.Sleep(w.late[side])
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.off || w.stop[1-side] == nil {
		return nil, errors.New("connect: connection refused")
	}
	near, far := net.Pipe()
	if w.latency != nil {
		near, far = w.slow(near), w.slow(far)
	}
	a, b := session.PipeOver(near, far, w.nodes[side].identity.Public(), w.nodes[1-side].identity.Public())
	w.conns = append(w.conns, a, b)
	go w.peers[1-side].Accept(context.WithoutCancel(ctx), b)
	return a, nil
}

// cutSessions breaks every control session without a word.
func (w *two) cutSessions() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// end describes a side's tunnel for an assertion; open is false where there is none.
func (w *two) end(side int) (slots int, carrier, open bool) {
	synctest.Wait()
	w.wires.mu.Lock()
	defer w.wires.mu.Unlock()
	e := w.wires.ends[side]
	if e == nil {
		return 0, false, false
	}
	return len(e.slots), e.carrier, true
}

func (w *two) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns) / 2
}

func (w *two) setOff(off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = off
}

func (w *two) start(sides ...int) {
	for _, side := range sides {
		w.mu.Lock()
		ctx, stop := context.WithCancelCause(context.Background())
		w.stop[side], w.ended[side] = stop, make(chan struct{})
		w.mu.Unlock()
		go func() {
			defer close(w.ended[side])
			if err := w.peers[side].Run(ctx); err != nil {
				w.t.Errorf("peer %d: %v", side, err)
			}
		}()
	}
}

func (w *two) finish() {
	for side := range 2 {
		if w.stop[side] != nil {
			w.stop[side](errors.New("the test is over"))
			<-w.ended[side]
			w.stop[side] = nil
		}
	}
	for _, e := range w.wires.ends {
		if e != nil { // of a tund that has no successor
			close(e.done)
		}
	}
	time.Sleep(time.Second) // for what is still on its way
}
