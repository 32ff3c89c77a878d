package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/e2e/lab"
)

// Attackers, on the hub of hub_test.go, where "one" is an honest peer throughout, and
// on a pair (see tunnel_test.go) with a stranger:
//
//	alpha ── link 1 ── beta ── link 2 ── stranger

// refusals returns how many control connections a node has refused, by reason.
func refusals(n *lab.Node) map[string]uint64 { return n.Status().Node.Refused }

func TestWrongPublicKeysAreRefusedAndDisturbNobody(t *testing.T) {
	t.Parallel()
	h := newHub(t, "one", "two", "three")
	// The hub knows "two" by a key that is not two's; "three" knows the hub by a wrong key.
	other := h.lab.Node("other").PublicKey()
	h.table.Set("two", "public_key", fmt.Sprintf("%q", other))
	h.Configure(h.table)
	h.tables[2].Set("hub", "public_key", fmt.Sprintf("%q", other))
	h.spokes[2].Configure(h.tables[2])
	h.Start()
	h.spokes[0].Start()
	h.spokes[0].WaitState("hub", "up", lab.Patience)
	ping := h.spokes[0].StartPing("10.77.1.1")
	before := childPIDs(h.Node)["one"]
	h.spokes[1].Start()
	h.spokes[2].Start()
	lab.Until(t, lab.Patience, "both are refused and counted", func() bool {
		counters := refusals(h.Node)
		return counters["unknown_key"] > 0 && counters["prelude"] > 0
	})
	for _, spoke := range h.spokes[1:] {
		status := spoke.WaitPeer("hub", lab.Patience, "an error is shown", func(s lab.PeerStatus) bool { return s.LastError != "" })
		t.Logf("%s shows the hub as %q: %s", spoke.Name, status.State, status.LastError)
		if status.State == "up" || status.Epoch != 0 {
			t.Errorf("%s shows the hub as %q with epoch %d", spoke.Name, status.State, status.Epoch)
		}
	}
	wantSilence(t, h.spokes[1], "10.77.2.1")
	if now := childPIDs(h.Node)["one"]; now != before {
		t.Errorf("child of the honest peer was %d, is %d", before, now)
	}
	wantNoLoss(t, "ping of the honest peer", ping.Stop())
}

func TestWrongPresharedKeyIsRefusedAndNamed(t *testing.T) {
	t.Parallel()
	h := newHub(t, "one", "two")
	good := h.NewPresharedKey()
	h.WriteFile("two.psk", good)
	h.spokes[1].WriteFile("hub.psk", h.NewPresharedKey())
	h.table.Set("two", "preshared_key_file", `"two.psk"`)
	h.tables[1].Set("hub", "preshared_key_file", `"hub.psk"`)
	h.Configure(h.table)
	h.spokes[1].Configure(h.tables[1])
	h.Start()
	h.spokes[0].Start()
	h.spokes[0].WaitState("hub", "up", lab.Patience)
	ping := h.spokes[0].StartPing("10.77.1.1")
	h.spokes[1].Start()
	for node, peer := range map[*lab.Node]string{h.Node: "two", h.spokes[1]: "hub"} {
		status := node.WaitPeer(peer, lab.Patience, "the pre-shared key is named", func(s lab.PeerStatus) bool {
			text := strings.ToLower(s.LastError)
			return strings.Contains(text, "pre-shared") || strings.Contains(text, "psk")
		})
		t.Logf("%s shows %s as %q: %s", node.Name, peer, status.State, status.LastError)
		if status.State == "up" || status.Transport != "" || status.ExchangesFailed == 0 {
			t.Errorf("%s shows %s as %q, transport %q, %d exchanges failed", node.Name, peer, status.State, status.Transport, status.ExchangesFailed)
		}
	}
	wantSilence(t, h.spokes[1], "10.77.2.1")
	// The right key, put in the file, is all it takes.
	h.spokes[1].WriteFile("hub.psk", good)
	h.spokes[1].WaitState("hub", "up", lab.Patience)
	h.WaitState("two", "up", lab.Patience)
	wantPing(t, h.spokes[1], "10.77.2.1")
	wantNoLoss(t, "ping of the honest peer", ping.Stop())
}

// withStranger returns a pair that is up, a third host on beta's other side, and where
// that host finds beta.
func withStranger(t *testing.T) (p *lab.Pair, stranger *lab.Node, targets []netip.AddrPort) {
	t.Helper()
	p = upPair(t, lab.PairOptions{})
	stranger = p.Lab.Node("stranger")
	link := p.Lab.Link(p.Beta, stranger, 1500)
	for _, version := range []int{4, 6} {
		targets = append(targets, netip.AddrPortFrom(link.Addr(p.Beta, version), lab.Port))
	}
	return p, stranger, targets
}

func TestGarbageOfStrangersIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	p, stranger, targets := withStranger(t)
	ping := p.Alpha.StartPing(lab.BetaInner4)
	before := p.Beta.Status()

	const datagrams = 1000
	for sent := 0; sent < datagrams; {
		var garbage [][]byte
		for range 50 { // as many as a queue holds
			sent++
			garbage = append(garbage, random(t, sent))
			garbage[len(garbage)-1][0] = 0x10 // looks like DATA
		}
		if err := stranger.SendUDP(targets[0], garbage); err != nil {
			t.Fatal(err)
		}
		lab.Until(t, lab.Patience, "all are counted", func() bool {
			return p.Beta.Status().Node.Drops["stranger"]-before.Node.Drops["stranger"] >= uint64(sent)
		})
	}
	// Not more than eight from one address: the ninth would push out the first.
	var wg sync.WaitGroup
	turn := 0
	for name, talk := range map[string]func(net.Conn){
		"random bytes":          func(c net.Conn) { _, _ = c.Write(random(t, 2000)) },
		"too much random bytes": func(c net.Conn) { _, _ = c.Write(random(t, 1<<20)) },
		"HTTP":                  func(c net.Conn) { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: tund\r\n\r\n") },
		"a TLS hello":           sayHello,
		"nothing":               func(net.Conn) {},
	} {
		target := targets[turn%len(targets)].String()
		turn++
		wg.Go(func() { wantQuiet(t, stranger, target, name, talk) })
	}
	wg.Wait()

	lab.Until(t, lab.Patience, "five connections are refused by their prelude", func() bool {
		counters := refusals(p.Beta)
		return counters["prelude"] >= before.Node.Refused["prelude"]+5
	})
	after := p.Beta.Status()
	t.Logf("refused: %v, node drops: %v", after.Node.Refused, after.Node.Drops)
	if counted := after.Node.Drops["stranger"] - before.Node.Drops["stranger"]; counted != datagrams {
		t.Errorf("%d datagrams of strangers counted, want %d", counted, datagrams)
	}
	for reason, count := range after.Peers[0].Drops {
		if count != before.Peers[0].Drops[reason] {
			t.Errorf("the child of an honest peer counted %q: %d", reason, count)
		}
	}
	wantNoLoss(t, "ping beside garbage", ping.Stop())
}

// wantQuiet opens a connection and says something; not a byte may come back, and the
// other side must close it by itself, but not at once.
func wantQuiet(t *testing.T, from *lab.Node, to, what string, talk func(net.Conn)) {
	t.Helper()
	start := time.Now()
	conn, err := from.Dial(t.Context(), to)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(lab.Patience)); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	talk(conn)
	got, err := io.ReadAll(conn)
	took := time.Since(start)
	t.Logf("%s: closed after %v", what, took.Round(time.Millisecond))
	if len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) || took < 3*time.Second {
		t.Errorf("%s: %d bytes back, %v after %v", what, len(got), err, took)
	}
}

// sayHello begins TLS as a scanner would, without the prelude.
func sayHello(conn net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// The answer is never read here: a scanner that hangs up is not what is tested.
	_ = tls.Client(deaf{conn}, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
}

// deaf is a connection that only speaks.
type deaf struct{ net.Conn }

func (deaf) Read([]byte) (int, error)    { return 0, io.EOF }
func (deaf) Close() error                { return nil }
func (deaf) SetDeadline(time.Time) error { return nil }

func random(t *testing.T, size int) []byte {
	t.Helper()
	content := make([]byte, size)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	return content
}

// record captures a ping of a second between alpha and beta and returns the datagrams
// that went from alpha to beta.
func record(t *testing.T, p *lab.Pair) []lab.Segment {
	t.Helper()
	device := p.Link.Interface(p.Alpha)
	capture := p.Alpha.Capture(device)
	p.Alpha.Ping(lab.BetaInner4, 100, "-i", "0.009")
	var sent []lab.Segment
	for _, segment := range capture.Stop() {
		if segment.IsData() && segment.Source.Addr() == p.Link.Addr(p.Alpha, 4) {
			sent = append(sent, segment)
		}
	}
	if len(sent) < 100 {
		t.Fatalf("captured %d datagrams of 100 pings", len(sent))
	}
	return sent
}

// wantDrops waits until beta's child has counted more drops, and fails the test unless
// they are exactly these.
func wantDrops(t *testing.T, p *lab.Pair, before lab.PeerStatus, want map[string]uint64) {
	t.Helper()
	after := p.Beta.WaitPeer("alpha", lab.Patience, fmt.Sprintf("drops grow by %v", want), func(s lab.PeerStatus) bool {
		for reason, count := range want {
			if s.Drops[reason] < before.Drops[reason]+count {
				return false
			}
		}
		return true
	})
	for reason, count := range after.Drops {
		if grown := count - before.Drops[reason]; grown != want[reason] {
			t.Errorf("drops by %q grew by %d, want %d", reason, grown, want[reason])
		}
	}
}

// Datagrams as from the peer's own address, which therefore reach the child.
func TestForgedDatagramsAreRefusedAndCounted(t *testing.T) {
	t.Parallel()
	const each = 50
	p := upPair(t, lab.PairOptions{})
	last := record(t, p)
	model := last[len(last)-1]
	device := p.Link.Interface(p.Alpha)
	ping := p.Alpha.StartPing(lab.BetaInner4)
	before := p.Beta.MustPeer("alpha")
	var forged []lab.Segment
	for i := range each {
		newer := bytes.Clone(model.Payload)
		binary.BigEndian.PutUint64(newer[4:], model.Number()+uint64(1_000_000+i))
		stranger := bytes.Clone(model.Payload)
		binary.BigEndian.PutUint32(stranger, 0x10000000|(model.Index()^1))
		reserved := bytes.Clone(model.Payload)
		reserved[0] |= 0x0f
		forged = append(forged,
			model.WithPayload(newer),                  // auth
			model.WithPayload(stranger),               // unknown
			model.WithPayload(reserved),               // malformed
			model.WithPayload(random(t, lab.TagSize)), // malformed: too short
		)
	}
	p.Alpha.Inject(device, forged)
	wantDrops(t, p, before, map[string]uint64{"auth": each, "unknown": each, "malformed": 2 * each})
	if after := p.Beta.MustPeer("alpha"); after.State != "up" || after.ChildPID != before.ChildPID {
		t.Errorf("state %q, child %d; child was %d", after.State, after.ChildPID, before.ChildPID)
	}
	wantNoLoss(t, "ping beside forged datagrams", ping.Stop())
}

func TestReplayedCaptureIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	old := record(t, p)
	device := p.Link.Interface(p.Alpha)
	ping := p.Alpha.StartPing(lab.BetaInner4)

	// The stream once more, while its key is in use.
	before := p.Beta.MustPeer("alpha")
	p.Alpha.Inject(device, old)
	wantDrops(t, p, before, map[string]uint64{"replay": uint64(len(old))})

	// After a rotation, while the old key may still receive.
	rotate(t, p.Alpha, "rotate-key", "beta")
	before = p.Beta.MustPeer("alpha")
	p.Alpha.Inject(device, old)
	wantDrops(t, p, before, map[string]uint64{"replay": uint64(len(old))})

	// And when the old key is gone.
	lab.Until(t, lab.Patience, "the old key is gone", func() bool {
		before = p.Beta.MustPeer("alpha")
		p.Alpha.Inject(device, old[:1])
		after := p.Beta.WaitPeer("alpha", lab.Patience, "it is refused", func(s lab.PeerStatus) bool {
			return s.Drops["replay"]+s.Drops["unknown"] > before.Drops["replay"]+before.Drops["unknown"]
		})
		return after.Drops["unknown"] > before.Drops["unknown"]
	})
	before = p.Beta.MustPeer("alpha")
	p.Alpha.Inject(device, old)
	wantDrops(t, p, before, map[string]uint64{"unknown": uint64(len(old))})

	// Back at the one who sent it.
	mirrored := make([]lab.Segment, 0, len(old))
	for _, segment := range old {
		mirrored = append(mirrored, segment.Mirrored())
	}
	p.Beta.Inject(p.Link.Interface(p.Beta), mirrored)
	p.Alpha.WaitPeer("beta", lab.Patience, "the mirrored stream is counted", func(s lab.PeerStatus) bool {
		return s.Drops["unknown"]+s.Drops["auth"]+s.Drops["replay"] >= uint64(len(old))
	})
	wantNoLoss(t, "ping beside replays", ping.Stop())
}

// A child in place of a dead one has none of its keys: what was recorded before is of no key
// that is known, though its window of numbers is gone.
func TestReplayAfterTheDeathOfAChildIsOfNoKey(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	old := record(t, p)
	dead := p.Beta.MustPeer("alpha").ChildPID
	kill(t, dead)
	p.Beta.WaitPeer("alpha", lab.Patience, "a new child", func(s lab.PeerStatus) bool {
		return s.ChildPID != 0 && s.ChildPID != dead && s.State == "up"
	})
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)
	before := p.Beta.MustPeer("alpha")
	p.Alpha.Inject(p.Link.Interface(p.Alpha), old)
	wantDrops(t, p, before, map[string]uint64{"unknown": uint64(len(old))})
}

// A captured beginning of a session, sent again by anyone, meets silence.
func TestReplayedPreludeMeetsSilence(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	capture := p.Alpha.Capture(p.Link.Interface(p.Alpha))
	p.Up()
	var opening []byte
	next := uint32(0)
	for _, segment := range capture.Stop() {
		if segment.Dest.Port() != lab.Port || segment.IsData() || len(opening) > 0 && segment.Sequence != next {
			continue
		}
		opening = append(opening, segment.Payload...)
		next = segment.Sequence + uint32(len(segment.Payload))
		if size := openingSize(opening); size > 0 && len(opening) >= size {
			opening = opening[:size]
			break
		}
	}
	if size := openingSize(opening); size == 0 || size != len(opening) {
		t.Fatalf("captured %d bytes of an opening of %d", len(opening), size)
	}
	before := refusals(p.Beta)
	ping := p.Alpha.StartPing(lab.BetaInner4)
	to := netip.AddrPortFrom(p.Link.Addr(p.Beta, 4), lab.Port).String()
	wantQuiet(t, p.Alpha, to, "a replayed opening", func(c net.Conn) { _, _ = c.Write(opening) })
	lab.Until(t, lab.Patience, "the replay is counted", func() bool {
		after := refusals(p.Beta)
		return after["replay"] > before["replay"]
	})
	if after := refusals(p.Beta); after["replay"] != before["replay"]+1 {
		t.Errorf("refused %v, want one replay more than %v", after, before)
	}
	wantNoLoss(t, "ping beside a replayed opening", ping.Stop())
}

// openingSize returns the size of random, MAC and the first TLS record of a session, 0
// while its header is not complete.
func openingSize(opening []byte) int {
	const prelude, header = 16 + 32, 5
	if len(opening) < prelude+header {
		return 0
	}
	return prelude + header + int(binary.BigEndian.Uint16(opening[prelude+3:]))
}
