package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/keys"
	"tund/internal/wire"
)

// The harness joins two sessions by a link in memory that the test can slow down, cut, and
// read, and gives each an owner with a model of a child: sets of receive slots and one send
// slot. All of it runs in a synctest bubble, in virtual time.

func seed(n byte) *keys.Identity { return keys.NewIdentity(&keys.Secret{n, 1, 2, 3}) }

// twoIdentities gives two identities, the one with the smaller public key first.
func twoIdentities() (smaller, larger *keys.Identity) {
	smaller, larger = seed(1), seed(2)
	if smaller.Public().Compare(larger.Public()) > 0 {
		smaller, larger = larger, smaller
	}
	return smaller, larger
}

type slot struct {
	kid keys.KeyID
	g   keys.Generation
}

// sealing is what two ends must have in common for a packet to pass.
type sealing struct {
	key   keys.DataKey
	g     keys.Generation
	index wire.Index
}

// child is the model of a data child.
type child struct {
	base    map[keys.KeyID]InstallKey
	receive map[slot]sealing
	pending map[slot]sealing
	sending slot
	send    sealing
}

func newChild() *child {
	return &child{base: map[keys.KeyID]InstallKey{}, receive: map[slot]sealing{}, pending: map[slot]sealing{}}
}

func (c *child) installKey(e InstallKey) {
	c.base[e.KeyID] = e
	c.install(slot{e.KeyID, 0}, sealing{e.Receive, 0, e.ReceiveIndex}, sealing{e.Send, 0, e.SendIndex}, e.Activate)
}

func (c *child) installIV(e InstallIV) {
	base := c.base[e.KeyID]
	c.install(slot{e.KeyID, e.Generation}, sealing{base.Receive, e.Generation, e.ReceiveIndex},
		sealing{base.Send, e.Generation, e.SendIndex}, e.Activate)
}

func (c *child) install(at slot, receive, send sealing, activate bool) {
	c.receive[at] = receive
	c.pending[at] = send
	if activate {
		c.activate(at)
	}
}

func (c *child) activate(at slot) {
	if send, ok := c.pending[at]; ok {
		c.sending, c.send = at, send
		delete(c.pending, at)
	}
}

func (c *child) drop(at slot) {
	delete(c.receive, at)
	delete(c.pending, at)
}

// open says whether a packet of the other child would open, and in which slot.
func (c *child) open(packet sealing) (slot, bool) {
	for at, s := range c.receive {
		if s == packet {
			return at, true
		}
	}
	return slot{}, false
}

// retireOlder is stricter than the 10 s of the protocol: at once.
func (c *child) retireOlder(than slot) {
	for at := range c.receive {
		if at.kid < than.kid || at.kid == than.kid && at.g < than.g {
			delete(c.receive, at)
		}
	}
}

// world is two nodes and what both children do. Its lock makes the invariant checkable.
type world struct {
	t  *testing.T
	mu sync.Mutex
	a  *node // dialler
	b  *node
}

// node is one end.
type node struct {
	world    *world
	name     string
	identity *keys.Identity
	psk      *keys.Secret
	hello    Hello
	indexes  *keys.Indexes
	nextID   keys.KeyID
	child    *child

	installDelay time.Duration
	installError error

	s      *Session
	events chan Event
	ended  chan struct{}
	err    error
	seen   []EventBody
	onStep func() // before an event is taken
}

func (n *node) PSK() *keys.Secret { return n.psk }

func newWorld(t *testing.T, dialler, listener *keys.Identity) *world {
	w := &world{t: t}
	w.a, w.b = newNode(w, "a", dialler), newNode(w, "b", listener)
	w.a.hello.Instance[0], w.b.hello.Instance[0] = 0xa, 0xb
	return w
}

func newNode(w *world, name string, id *keys.Identity) *node {
	return &node{
		world: w, name: name, identity: id, child: newChild(), indexes: keys.NewIndexes(time.Now),
		hello: Hello{Mode: "tun", MTU: 1400, UDPPort: 7900, AEADs: []keys.AEAD{keys.AES256GCM, keys.ChaCha20Poly1305}},
	}
}

func (w *world) other(n *node) *node {
	if n == w.a {
		return w.b
	}
	return w.a
}

// begin starts a session between the two over a new link.
func (w *world) begin(ctx context.Context) *link {
	l := newLink(w.t)
	ca, cb := PipeOver(l.a, l.b, w.a.identity.Public(), w.b.identity.Public())
	w.a.begin(ctx, ca)
	w.b.begin(ctx, cb)
	return l
}

func (n *node) begin(ctx context.Context, c *Conn) {
	n.events = make(chan Event)
	n.ended = make(chan struct{})
	n.seen = nil
	n.s = New(Options{
		Log: slog.New(slog.DiscardHandler), Conn: c, Identity: n.identity, Hello: n.hello, Secrets: n,
		Indexes: n.indexes, Allowance: NewAllowance(), Events: n.events,
		NextKeyID: func() keys.KeyID { n.nextID++; return n.nextID },
	})
	session, events, ended := n.s, n.events, n.ended
	go func() {
		defer close(ended)
		n.err = session.Run(ctx)
		close(events)
	}()
	go func() {
		for e := range events {
			n.take(session, e.Body)
		}
	}()
}

// take is the owner: it does what a peer would do, and keeps what it saw.
func (n *node) take(s *Session, e EventBody) {
	if n.onStep != nil {
		n.onStep()
	}
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.seen = append(n.seen, e)
	switch e := e.(type) {
	case InstallKey:
		n.installed(s, e.KeyID, 0, func() { n.child.installKey(e) })
	case InstallIV:
		n.installed(s, e.KeyID, e.Generation, func() { n.child.installIV(e) })
	case Activate:
		n.child.activate(slot{e.KeyID, e.Generation})
	case Drop:
		n.child.drop(slot{e.KeyID, e.Generation})
	}
	n.world.checkLocked()
}

// installed lets the child take a key at once or after a while.
func (n *node) installed(s *Session, kid keys.KeyID, g keys.Generation, install func()) {
	failure := n.installError
	finish := func() {
		if failure == nil {
			install()
		}
		s.Installed(kid, g, failure)
	}
	if n.installDelay == 0 {
		finish()
		return
	}
	go func() {
		time.Sleep(n.installDelay)
		n.world.mu.Lock()
		defer n.world.mu.Unlock()
		finish()
		n.world.checkLocked()
	}()
}

// checkLocked is the promise of make before break: what a child sends the other can open.
func (w *world) checkLocked() {
	for _, n := range []*node{w.a, w.b} {
		if n.child.send == (sealing{}) {
			continue
		}
		if _, ok := w.other(n).child.open(n.child.send); !ok {
			w.t.Errorf("%s sends with a key that the other end does not hold", n.name)
		}
	}
}

// packet lets one packet pass from n to the other end, which confirms and retires.
func (w *world) packet(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.child.send == (sealing{}) {
		return
	}
	to := w.other(n)
	at, ok := to.child.open(n.child.send)
	if !ok {
		w.t.Errorf("packet of %s did not open", n.name)
		return
	}
	to.child.activate(at)
	to.child.retireOlder(at)
	to.s.Confirmed(at.kid, at.g)
	w.checkLocked()
}

// traffic lets packets pass both ways, twice, so that everything pending is confirmed.
func (w *world) traffic() {
	for range 2 {
		w.packet(w.a)
		w.packet(w.b)
	}
}

// events gives the events of type E that n has seen.
func events[E EventBody](n *node) []E {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	var out []E
	for _, e := range n.seen {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// last gives the last event of type E that n has seen.
func last[E EventBody](t *testing.T, n *node) E {
	t.Helper()
	all := events[E](n)
	if len(all) == 0 {
		var none E
		t.Fatalf("%s saw no %T, but %v", n.name, none, kinds(n))
	}
	return all[len(all)-1]
}

func kinds(n *node) []string {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	var out []string
	for _, e := range n.seen {
		out = append(out, fmt.Sprintf("%T", e))
	}
	return out
}

// link is two pipes with a middleman who delays, watches and cuts.
type link struct {
	t    *testing.T
	a, b net.Conn // for the two sessions
	mid  [2]net.Conn

	mu      sync.Mutex
	latency time.Duration
	onFrame func(fromA bool, m Message) bool // false: swallow it
	frames  []string
}

func newLink(t *testing.T) *link {
	l := &link{t: t}
	l.a, l.mid[0] = net.Pipe()
	l.b, l.mid[1] = net.Pipe()
	go l.carry(true, l.mid[0], l.mid[1])
	go l.carry(false, l.mid[1], l.mid[0])
	return l
}

type flying struct {
	at   time.Time
	data []byte // nil: the end
}

// carry moves frames in one direction, and the end, each a latency later than it was
// sent.
func (l *link) carry(fromA bool, from, to net.Conn) {
	queue := make(chan flying, 1000)
	go func() {
		defer close(queue)
		for {
			data, err := readFrame(from)
			l.mu.Lock()
			latency := l.latency
			l.mu.Unlock()
			if err != nil {
				queue <- flying{at: time.Now().Add(latency)}
				return
			}
			queue <- flying{time.Now().Add(latency), data}
		}
	}()
	for f := range queue {
		time.Sleep(time.Until(f.at))
		if f.data == nil {
			break
		}
		if l.watch(fromA, f.data) {
			_, _ = to.Write(frame(f.data))
		}
	}
	_ = to.Close()
}

func (l *link) watch(fromA bool, data []byte) bool {
	m, err := Decode(data)
	if err != nil {
		return true
	}
	arrow := "b>"
	if fromA {
		arrow = "a>"
	}
	l.mu.Lock()
	l.frames = append(l.frames, arrow+m.Type().String())
	onFrame := l.onFrame
	l.mu.Unlock()
	return onFrame == nil || onFrame(fromA, m)
}

// cut kills the link in both directions at once.
func (l *link) cut() {
	_ = l.mid[0].Close()
	_ = l.mid[1].Close()
}

// quiet waits until nothing more happens without the clock moving.
func quiet() { synctest.Wait() }

// after lets d pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// opened starts a session and waits for both ends to be open.
func (w *world) opened(ctx context.Context) *link {
	w.t.Helper()
	l := w.begin(ctx)
	quiet()
	last[Established](w.t, w.a)
	last[Established](w.t, w.b)
	return l
}

// first makes the first epoch of a session.
func (w *world) first() {
	w.t.Helper()
	w.a.s.Rekey()
	after(time.Second)
	for _, n := range []*node{w.a, w.b} {
		if e := last[Exchanged](w.t, n); e.Err != nil {
			w.t.Fatalf("%s: first epoch: %v", n.name, e.Err)
		}
	}
	w.traffic()
	quiet()
}

func (n *node) isOver() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// rawPeer lets a test be the other end of a session, message by message.
type rawPeer struct {
	t    *testing.T
	conn net.Conn
}

func (p *rawPeer) send(m Message) {
	p.t.Helper()
	data, err := Encode(m)
	if err != nil {
		p.t.Fatal(err)
	}
	p.sendBytes(frame(data))
}

func (p *rawPeer) sendBytes(data []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(data); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Fatal(err)
	}
}

// expect reads up to the next message that is no PING, which must be a T.
func expect[T Message](p *rawPeer) T {
	p.t.Helper()
	for {
		data, err := readFrame(p.conn)
		if err != nil {
			var want T
			p.t.Fatalf("waiting for %s: %v", want.Type(), err)
		}
		m, err := Decode(data)
		if err != nil {
			p.t.Fatal(err)
		}
		if _, ok := m.(Ping); ok {
			continue
		}
		want, ok := m.(T)
		if !ok {
			p.t.Fatalf("got %#v, want %s", m, want.Type())
		}
		return want
	}
}

// against starts node n as the dialler or listener against a raw peer.
func (w *world) against(ctx context.Context, n *node) *rawPeer {
	mine, theirs := net.Pipe()
	ca, cb := PipeOver(mine, mine, w.a.identity.Public(), w.b.identity.Public())
	if n == w.a {
		n.begin(ctx, ca)
	} else {
		n.begin(ctx, cb)
	}
	return &rawPeer{t: w.t, conn: theirs}
}

// greet exchanges HELLOs as a raw peer.
func (p *rawPeer) greet(h Hello) {
	p.t.Helper()
	expect[Hello](p)
	if len(h.Versions) == 0 {
		h.Versions = []uint16{Version}
	}
	p.send(h)
}

func lengthOf(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
