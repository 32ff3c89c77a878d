package peer_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/parts"
	"tund/internal/peer"
	"tund/internal/pipe"
	"tund/internal/supervisor"
	"tund/internal/wire"
)

// fakeNode is what a daemon would be to its peers.
type fakeNode struct {
	identity *keys.Identity
	instance [16]byte
	indexes  *keys.Indexes

	mu      sync.Mutex
	held    map[string]string
	located map[string][]netip.Addr // by peer and name
}

// randomIdentity is another one at each call.
func randomIdentity() *keys.Identity {
	seed := keys.GenerateSecret()
	return keys.NewIdentity(&seed)
}

func newFakeNode(instance byte) *fakeNode {
	return &fakeNode{
		identity: randomIdentity(),
		instance: [16]byte{instance},
		indexes:  keys.NewIndexes(time.Now),
		held:     make(map[string]string),
		located:  make(map[string][]netip.Addr),
	}
}

func (n *fakeNode) Identity() *keys.Identity { return n.identity }
func (n *fakeNode) Instance() [16]byte       { return n.instance }
func (n *fakeNode) AEADs() []keys.AEAD       { return []keys.AEAD{keys.AES256GCM} }
func (n *fakeNode) Indexes() *keys.Indexes   { return n.indexes }
func (n *fakeNode) Local(netip.Addr) netip.AddrPort {
	return netip.MustParseAddrPort("[::]:7900")
}
func (n *fakeNode) Reachable(netip.Addr) error { return nil }
func (n *fakeNode) OuterMTU(netip.Addr) int    { return 1500 }

func (n *fakeNode) Located(peer, name string, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.located[peer+" "+name] = addrs
}

func (n *fakeNode) Hold(name, reason string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held[name] = reason
	return nil
}

func (n *fakeNode) Held(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held[name]
}

// wirePair joins two fake tunnels: what one sends the other receives, if it can.
type wirePair struct {
	mu     sync.Mutex
	cut    bool
	ends   [2]*fakeTunnel
	refuse error      // Connect fails with it
	lacks  parts.List // what a device lacks when it is new
	spoilt error      // nothing that was left can be taken over
	broken [2]bool    // a side can't make a tunnel

	obstinate error                        // why no child resumes
	delay     func(side int) time.Duration // of each event on its way to the peer; nil: none
}

// fakeTunnel is a tunnel whose child obeys at once. Its data channel is modelled by
// indexes alone: sending in a slot makes an authentic packet arrive at the other end
// if that holds the index.
type fakeTunnel struct {
	pair    *wirePair
	side    int
	events  chan<- supervisor.Event
	queue   chan supervisor.Event
	done    chan struct{}
	remote  netip.AddrPort
	closed  bool
	stalled atomic.Bool
	carrier bool
	applied []netcfg.Settings
	missing parts.List // of the settings

	number     uint64 // of the present child; 0: none is ready
	count      uint64 // children that there were
	slots      map[pipe.Activate]*fakeSlot
	sending    pipe.Activate
	mute       bool // does not acknowledge
	old        map[wire.Index]time.Time
	newest     keys.KeyID
	resume     *supervisor.State // what the next child goes on from
	configured pipe.Configure    // what the next child is told at its start
	inForce    pipe.Configure    // what the present one was told
	counters   pipe.Stats        // what the present one has counted
}

type fakeSlot struct {
	send, receive wire.Index
	active, heard bool
}

func (w *wirePair) end(side int) *fakeTunnel {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ends[side]
}

// keys are those that a side's child holds.
func (w *wirePair) keys(side int) (held []keys.KeyID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.ends[side].slots {
		held = append(held, id.KeyID)
	}
	return held
}

// setCut lets no datagram pass, or all.
func (w *wirePair) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

var errBroken = errors.New("open tun tun-other: busy")

func (w *wirePair) isBroken(side int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken[side]
}

func (w *wirePair) setBroken(side int, broken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken[side] = broken
}

func (w *wirePair) opener(side int) peer.Opener {
	return func(o peer.Opening) (peer.Tunnel, error) {
		if o.Inherited != nil && w.spoilt != nil {
			return nil, w.spoilt
		}
		if w.isBroken(side) {
			return nil, errBroken
		}
		t := &fakeTunnel{pair: w, side: side, events: o.Events, queue: make(chan supervisor.Event, 1024), done: make(chan struct{}), old: make(map[wire.Index]time.Time)}
		t.applied, t.missing = append(t.applied, o.Settings), w.lacks
		w.mu.Lock()
		if before := w.ends[side]; before != nil { // of the tund before
			close(before.done)
		}
		t.inherit(o)
		w.ends[side] = t
		w.mu.Unlock()
		go t.deliver()
		return t, nil
	}
}

// deliver hands events to the peer; it ends with Close.
func (t *fakeTunnel) deliver() {
	for {
		select {
		case e := <-t.queue:
			if t.pair.delay != nil {
				time.Sleep(t.pair.delay(t.side))
			}
			select {
			case t.events <- e:
			case <-t.done:
				return
			}
		case <-t.done:
			return
		}
	}
}

func (t *fakeTunnel) say(m pipe.Message) {
	t.queue <- supervisor.Event{Child: t.number, PID: int(t.number), Body: supervisor.Received{Message: m}}
}

func (t *fakeTunnel) begin() {
	t.count++
	t.number, t.newest = t.count, 0
	t.slots, t.sending = make(map[pipe.Activate]*fakeSlot), pipe.Activate{}
	t.queue <- supervisor.Event{Child: t.number, PID: int(t.number), Body: t.goOn()}
}

// crash ends the child and begins another.
func (t *fakeTunnel) crash() {
	t.die()
	t.revive()
}

// die ends the child. revive begins another, which has read its configuration then.
func (t *fakeTunnel) die() {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	t.queue <- supervisor.Event{Child: t.number, Body: supervisor.Exited{Err: errors.New("signal: killed")}}
	t.number, t.slots, t.sending = 0, nil, pipe.Activate{}
	t.inForce = t.configured
}

func (t *fakeTunnel) Offloads() pipe.Offloads { return 0 }

func (t *fakeTunnel) Stalled() bool { return t.stalled.Load() }

func (t *fakeTunnel) revive() {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	if !t.closed {
		t.begin()
	}
}

func (t *fakeTunnel) Configure(c pipe.Configure) {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	t.configured = c
	if t.count == 0 {
		t.inForce = c
		t.begin()
	}
}

func (t *fakeTunnel) Send(child uint64, m pipe.Message) error {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	if child != t.number {
		return errors.New("stale child")
	}
	if t.mute {
		return nil
	}
	switch m := m.(type) {
	case pipe.Configure:
		t.inForce = m
		t.say(pipe.Configured{Seq: m.Seq})
	case *pipe.InstallKey:
		t.install(pipe.Activate{KeyID: m.KeyID}, m.SendIndex, m.ReceiveIndex, m.Activate, m.KeyID > t.newest)
		t.newest = max(t.newest, m.KeyID)
	case pipe.InstallIV:
		held := slices.ContainsFunc(slices.Collect(maps.Keys(t.slots)), func(a pipe.Activate) bool { return a.KeyID == m.KeyID })
		t.install(pipe.Activate{KeyID: m.KeyID, Generation: m.Generation}, m.SendIndex, m.ReceiveIndex, m.Activate, held)
	case pipe.Activate:
		t.activate(m)
	case pipe.Retire:
		t.remove(func(id pipe.Activate) bool { return older(id, pipe.Activate(m)) && id != t.sending })
	case pipe.Drop:
		t.remove(func(id pipe.Activate) bool {
			return id == pipe.Activate(m) || m.Generation == 0 && id.KeyID == m.KeyID
		})
	case pipe.Displace:
		t.displace(m)
	case pipe.Wipe:
		clear(t.slots)
		t.sending = pipe.Activate{}
		t.say(pipe.Wiped(m))
	case pipe.GetStats:
		t.say(t.stats(m.Seq))
	case pipe.SendProbe:
		t.say(pipe.ProbeResult{ID: m.ID, OK: t.works()})
	}
	return nil
}

// stats are the counters of the present child.
func (t *fakeTunnel) stats(seq uint64) pipe.Stats {
	s := t.counters
	s.Seq = seq
	return s
}

func (t *fakeTunnel) displace(m pipe.Displace) {
	covers := func(id pipe.Activate) bool {
		return id == pipe.Activate(m) || m.Generation == 0 && id.KeyID == m.KeyID
	}
	kept := covers(t.sending)
	for id, s := range t.slots {
		kept = kept || covers(id) && s.heard
	}
	if !kept {
		t.remove(covers)
	}
	t.say(pipe.Displaced{KeyID: m.KeyID, Generation: m.Generation, Kept: kept})
}

func older(a, b pipe.Activate) bool {
	return a.KeyID < b.KeyID || a.KeyID == b.KeyID && a.Generation < b.Generation
}

func (t *fakeTunnel) remove(gone func(pipe.Activate) bool) {
	maps.DeleteFunc(t.slots, func(id pipe.Activate, _ *fakeSlot) bool { return gone(id) })
}

func (t *fakeTunnel) install(id pipe.Activate, send, receive wire.Index, active, fits bool) {
	if at, used := t.old[receive]; used && time.Since(at) < time.Minute {
		panic("an index is used again")
	}
	t.old[receive] = time.Now()
	if !fits {
		t.say(pipe.Installed{KeyID: id.KeyID, Generation: id.Generation, Err: "does not fit"})
		return
	}
	held := map[keys.KeyID]bool{id.KeyID: true}
	for other := range t.slots {
		held[other.KeyID] = true
	}
	if len(held) > pipe.MaxKeys || len(t.slots) >= pipe.MaxSlots {
		panic("the child is given more than it may hold")
	}
	t.slots[id] = &fakeSlot{send: send, receive: receive}
	t.say(pipe.Installed{KeyID: id.KeyID, Generation: id.Generation})
	if active {
		t.activate(id)
	}
}

// activate sends in a slot, and lets the other end hear it.
func (t *fakeTunnel) activate(id pipe.Activate) {
	s := t.slots[id]
	if s == nil || s.active || older(id, t.sending) {
		return
	}
	s.active, t.sending = true, id
	t.pair.ends[1-t.side].hear(s.send)
}

// probe lets both ends send once more in what they send with.
func (w *wirePair) probe() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for side, t := range w.ends {
		if t == nil {
			continue
		}
		if s := t.slots[t.sending]; s != nil {
			w.ends[1-side].hear(s.send)
		}
	}
}

func (t *fakeTunnel) hear(index wire.Index) {
	if t == nil || t.pair.cut || !t.pair.ends[1-t.side].remote.IsValid() {
		return
	}
	for id, s := range t.slots {
		if s.receive != index || s.heard {
			continue
		}
		s.heard = true
		t.say(pipe.KeyActive(id))
		t.activate(id)
	}
}

// works tells whether what this end sends in is held by the other end.
func (t *fakeTunnel) works() bool {
	s, other := t.slots[t.sending], t.pair.ends[1-t.side]
	if s == nil || other == nil {
		return false
	}
	for _, o := range other.slots {
		if o.receive == s.send {
			return true
		}
	}
	return false
}

func (t *fakeTunnel) Set(s netcfg.Settings) parts.List {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	t.applied = append(t.applied, s)
	return t.missing
}

func (t *fakeTunnel) Missing() parts.List {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	return t.missing
}

// lose makes the device lack something from now on; nil: nothing.
func (t *fakeTunnel) lose(missing parts.List) {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	t.missing = missing
}

func (t *fakeTunnel) Connect(_, remote netip.AddrPort, _ bool) error {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	if t.pair.refuse != nil {
		return t.pair.refuse
	}
	t.remote = remote
	return nil
}
func (t *fakeTunnel) Bind(netip.AddrPort) error { return nil }
func (t *fakeTunnel) Remote() netip.AddrPort {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	return t.remote
}
func (t *fakeTunnel) LocalPort() uint16 { return 7900 }
func (t *fakeTunnel) SetCarrier(up bool) error {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	t.carrier = up
	return nil
}

func (t *fakeTunnel) Close() {
	t.pair.mu.Lock()
	defer t.pair.mu.Unlock()
	t.closed = true
	t.pair.ends[t.side] = nil
	close(t.done)
}
