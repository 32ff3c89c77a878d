package datapath

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/wire"
)

// node is one datapath with a test around it.
type node struct {
	*fakeParent
	device *fakeDevice
	socket *fakeSocket
	stop   *fakeStop
	path   *Datapath
	done   chan error // 1
	log    *bytes.Buffer
	base   wire.Index // of its receive indexes
	limits Limits
	joint  bool // one goroutine for both directions
	clock  func() time.Duration
	engine *mortal // notes the ciphers
}

// newNode starts a datapath, greeted but not configured. It must be called in a bubble.
func newNode(t *testing.T, mode pipe.Mode, limits Limits) *node {
	t.Helper()
	n := startNode(t, mode, limits)
	n.tell(pipe.Hello{Version: pipe.Version})
	return n
}

// newJointNode is newNode with one goroutine for both directions.
func newJointNode(t *testing.T, mode pipe.Mode, limits Limits) *node {
	t.Helper()
	n := startNodeWith(t, mode, &node{limits: limits, joint: true})
	n.tell(pipe.Hello{Version: pipe.Version})
	return n
}

// startNode starts a datapath that nobody has greeted yet.
func startNode(t *testing.T, mode pipe.Mode, limits Limits) *node {
	t.Helper()
	return startNodeWith(t, mode, &node{limits: limits})
}

func startNodeWith(t *testing.T, mode pipe.Mode, n *node) *node {
	t.Helper()
	n.device = &fakeDevice{queue: newQueue(nil)}
	n.socket = &fakeSocket{
		queue: newQueue(nil), sending: make(chan struct{}, 1), send: func([]byte) {}, roomy: make(chan struct{}, 1),
	}
	start := time.Now()
	n.clock = func() time.Duration { return time.Since(start) }
	n.begin(t, mode)
	return n
}

// begin starts a datapath over the device and the socket of n.
func (n *node) begin(t *testing.T, mode pipe.Mode) {
	t.Helper()
	n.stop, n.done, n.log = newFakeStop(), make(chan error, 1), &bytes.Buffer{}
	n.device.adopt(n.stop)
	n.socket.adopt(n.stop)
	standard, err := aead.Open(aead.ChooseGo)
	if err != nil {
		t.Fatal(err)
	}
	n.engine = &mortal{Engine: standard}
	parent, child := newPipes(t)
	n.fakeParent = parent
	o := Options{
		Log:  slog.New(slog.NewTextHandler(n.log, nil)),
		Mode: mode, Device: n.device, Socket: n.socket, Pipe: child, Stop: n.stop, Limits: n.limits,
		Now: n.clock, Engine: n.engine,
	}
	if n.joint {
		o.Both = fakeBoth{n.device, n.socket, n.stop}
	}
	n.path, err = New(o)
	if err != nil {
		t.Fatal(err)
	}
	done, path := n.done, n.path
	go func() { done <- path.Run(t.Context()) }()
	go parent.listen()
	t.Cleanup(func() {
		_ = parent.w.Close()
		done <- <-done
	})
}

// end waits until the datapath has ended by itself.
func (n *node) end() error {
	err := <-n.done
	n.done <- nil
	return err
}

func (n *node) configure(c pipe.Configure) {
	n.t.Helper()
	if c.KeyLifetime == 0 {
		c.KeyLifetime = time.Hour
	}
	if c.Mode == 0 {
		c.Mode = pipe.ModeTUN
	}
	n.tell(c)
	synctest.Wait()
}

// stats asks for the counters, after all has come to rest.
func (n *node) stats() pipe.Stats {
	n.t.Helper()
	synctest.Wait()
	n.tell(pipe.GetStats{Seq: 4242})
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, m := range n.said {
		if s, ok := m.(pipe.Stats); ok {
			n.said = slices.Delete(n.said, i, i+1)
			return s
		}
	}
	n.t.Fatal("no stats")
	return pipe.Stats{}
}

// pair is two nodes whose sockets are linked.
type pair struct {
	a, b *node
}

// newPair starts two configured nodes.
func newPair(t *testing.T, mode pipe.Mode, c pipe.Configure) pair {
	t.Helper()
	return newLimitedPair(t, mode, c, Limits{})
}

// newLimitedPair joins one node with a goroutine for each direction, and one with one for
// both: all that is tested of the one is tested of the other.
func newLimitedPair(t *testing.T, mode pipe.Mode, c pipe.Configure, l Limits) pair {
	t.Helper()
	c.Mode = mode
	p := pair{a: newNode(t, mode, l), b: newJointNode(t, mode, l)}
	p.a.base, p.b.base = 0xa00000, 0xb00000
	p.a.socket.link(p.b.socket.put)
	p.b.socket.link(p.a.socket.put)
	p.a.configure(c)
	p.b.configure(c)
	p.a.heard()
	p.b.heard()
	return p
}

// dataKey makes a key that depends on its owner and id alone.
func dataKey(owner byte, id keys.KeyID) keys.DataKey {
	k := keys.DataKey{}
	for i := range k.Key {
		k.Key[i] = owner + byte(i)*3
	}
	binary.BigEndian.PutUint64(k.Key[8:], uint64(id))
	binary.BigEndian.PutUint64(k.IV[2:], uint64(id)<<8|uint64(owner))
	return k
}

// index is the one that a node chooses for a slot.
func (n *node) index(id keys.KeyID, g keys.Generation) wire.Index {
	return n.base + wire.Index(id)<<8 + wire.Index(g) + 1
}

// install gives n its side of a key; peer is the other node.
func (n *node) install(peer *node, id keys.KeyID, activate bool) {
	n.t.Helper()
	n.tell(&pipe.InstallKey{
		KeyID: id, Epoch: keys.Epoch(id), AEAD: keys.AES256GCM,
		Send: dataKey(byte(n.base>>16), id), Receive: dataKey(byte(peer.base>>16), id),
		SendIndex: peer.index(id, 0), ReceiveIndex: n.index(id, 0), Activate: activate,
	})
	synctest.Wait()
}

func (n *node) installIV(peer *node, id keys.KeyID, g keys.Generation, activate bool) {
	n.t.Helper()
	n.tell(pipe.InstallIV{
		KeyID: id, Generation: g, SendIndex: peer.index(id, g), ReceiveIndex: n.index(id, g), Activate: activate,
	})
	synctest.Wait()
}

// rekey does what an exchange does that a began, up to the first packets in the new
// key: b receives with it, then a sends with it, then b does.
func (p pair) rekey(id keys.KeyID) {
	p.a.t.Helper()
	p.b.install(p.a, id, false)
	p.a.install(p.b, id, true)
}

func (p pair) reiv(id keys.KeyID, g keys.Generation) {
	p.a.t.Helper()
	p.b.installIV(p.a, id, g, false)
	p.a.installIV(p.b, id, g, true)
}

// packet makes an inner packet from source, 10.0.0.1 if empty, with some payload.
func packet(source string, payload ...byte) []byte {
	addr, err := netip.ParseAddr(cmp.Or(source, "10.0.0.1"))
	if err != nil {
		panic(err)
	}
	header := make([]byte, ipv4Header)
	header[0] = 0x45
	at := 12
	if addr.Is6() {
		header = make([]byte, ipv6Header)
		header[0] = 0x60
		at = 8
	}
	copy(header[at:], addr.AsSlice())
	return append(header, payload...)
}

// expect compares all that the child said since the last look.
func (n *node) expect(want ...pipe.Message) {
	n.t.Helper()
	synctest.Wait()
	if got := n.heard(); !slices.Equal(got, want) {
		n.t.Errorf("child said %+v, want %+v", got, want)
	}
}

// deliver puts packets into one node's device and wants them out of the other's.
func deliver(t *testing.T, from, to *node, packets ...[]byte) {
	t.Helper()
	synctest.Wait()
	to.device.got()
	for _, p := range packets {
		from.device.put(p)
	}
	synctest.Wait()
	if got := to.device.got(); !slices.EqualFunc(got, packets, bytes.Equal) {
		t.Errorf("got %d packets %x, want %d", len(got), got, len(packets))
	}
}
