package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/segment"
	"tund/internal/wire"
)

// allOffloads is what a child is told on a good day.
const allOffloads = pipe.OffloadCsum | pipe.OffloadTSO4 | pipe.OffloadTSO6 | pipe.OffloadUSO4 | pipe.OffloadUSO6 |
	pipe.OffloadUDPGSO | pipe.OffloadUDPGRO

// sum is the Internet checksum, slowly.
func sum(parts ...[]byte) uint16 {
	s := 0
	for _, p := range parts {
		for i, b := range p {
			s += int(b) << (8 - i%2*8)
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// pseudoHeader of an IPv4 or IPv6 packet without extension headers.
func pseudoHeader(packet []byte, protocol byte, length int) []byte {
	addresses := packet[12:20]
	if packet[0]>>4 == 6 {
		addresses = packet[8:40]
	}
	return append(slices.Clone(addresses), 0, protocol, byte(length>>8), byte(length))
}

// cut does what the kernel does with a packet that is written to a device: it cuts it
// into segments, and completes their checksums.
func cut(h segment.VirtioHeader, packet []byte) [][]byte {
	if h.Type == segment.GSONone {
		if h.Flags&segment.NeedsCsum != 0 {
			complete(packet, int(h.ChecksumStart), int(h.ChecksumOffset))
		}
		return [][]byte{packet}
	}
	start := int(h.ChecksumStart)
	headers, protocol := start+8, byte(17)
	if h.Type != segment.GSOUDP {
		headers, protocol = start+int(packet[start+12]>>4)*4, 6
	}
	var all [][]byte
	payloads := slices.Collect(slices.Chunk(packet[headers:], int(h.Size)))
	for i, payload := range payloads {
		s := append(slices.Clone(packet[:headers]), payload...)
		if s[0]>>4 == 4 {
			binary.BigEndian.PutUint16(s[2:], uint16(len(s)))
			binary.BigEndian.PutUint16(s[4:], binary.BigEndian.Uint16(s[4:])+uint16(i))
			s[10], s[11] = 0, 0
			binary.BigEndian.PutUint16(s[10:], sum(s[:20]))
		} else {
			binary.BigEndian.PutUint16(s[4:], uint16(len(s)-40))
		}
		if protocol == 17 {
			binary.BigEndian.PutUint16(s[start+4:], uint16(len(s)-start))
		} else {
			binary.BigEndian.PutUint32(s[start+4:], binary.BigEndian.Uint32(s[start+4:])+uint32(i)*uint32(h.Size))
			if i < len(payloads)-1 {
				s[start+13] &^= 9 // FIN, PSH
			}
		}
		at := start + int(h.ChecksumOffset)
		binary.BigEndian.PutUint16(s[at:], ^sum(pseudoHeader(s, protocol, len(s)-start)))
		complete(s, start, int(h.ChecksumOffset))
		all = append(all, s)
	}
	return all
}

func complete(packet []byte, start, offset int) {
	s := sum(packet[start:])
	if s == 0 {
		s = 0xffff
	}
	binary.BigEndian.PutUint16(packet[start+offset:], s)
}

// flowOf makes one packet of a flow with a partial checksum, as a device gives it: single
// if it has no more than size bytes of payload, super otherwise.
func flowOf(version, protocol, port int, seq uint32, payload []byte, size int) item {
	network, transport, offset := 20, 20, 16
	if version == 6 {
		network = 40
	}
	if protocol == 17 {
		transport, offset = 8, 6
	}
	p := make([]byte, network+transport, network+transport+len(payload))
	p = append(p, payload...)
	if version == 4 {
		p[0], p[8], p[9] = 0x45, 64, byte(protocol)
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		binary.BigEndian.PutUint16(p[4:], uint16(seq>>4))
		copy(p[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		binary.BigEndian.PutUint16(p[10:], sum(p[:20]))
	} else {
		p[0], p[6], p[7] = 0x60, byte(protocol), 64
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		p[8], p[23], p[24], p[39] = 0xfd, 1, 0xfd, 2
	}
	t := p[network:]
	binary.BigEndian.PutUint16(t, 9)
	binary.BigEndian.PutUint16(t[2:], uint16(port))
	if protocol == 6 {
		binary.BigEndian.PutUint32(t[4:], seq)
		t[12], t[13] = 5<<4, 0x10
	} else {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	}
	binary.BigEndian.PutUint16(t[offset:], ^sum(pseudoHeader(p, byte(protocol), len(t))))
	h := segment.VirtioHeader{Flags: segment.NeedsCsum, ChecksumStart: uint16(network), ChecksumOffset: uint16(offset)}
	if len(payload) > size {
		h.Size, h.HeaderLen = uint16(size), uint16(network+transport)
		h.Type = segment.GSOUDP
		if protocol == 6 {
			h.Type = map[int]segment.GSOType{4: segment.GSOTCPv4, 6: segment.GSOTCPv6}[version]
		}
	}
	return item{bytes: p, header: h}
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// superPair is a pair whose device and sockets carry many packets at once. The key
// permits partial checksums if partial is set.
func superPair(t *testing.T, o pipe.Offloads, partial bool) pair {
	t.Helper()
	p := newPair(t, pipe.ModeTUN, pipe.Configure{})
	p.a.socket.sendRun, p.b.socket.sendRun = p.b.socket.putItem, p.a.socket.putItem
	for _, n := range []*node{p.a, p.b} {
		n.configure(pipe.Configure{Offloads: o})
	}
	p.install(1, partial)
	p.a.heard()
	p.b.heard()
	return p
}

// install gives both nodes the key, with the feature or without.
func (p pair) install(id keys.KeyID, partial bool) {
	p.a.t.Helper()
	for _, n := range []struct{ me, peer *node }{{p.b, p.a}, {p.a, p.b}} {
		n.me.tell(&pipe.InstallKey{
			KeyID: id, Epoch: keys.Epoch(id), AEAD: keys.AES256GCM,
			Send: dataKey(byte(n.me.base>>16), id), Receive: dataKey(byte(n.peer.base>>16), id),
			SendIndex: n.peer.index(id, 0), ReceiveIndex: n.me.index(id, 0), Activate: n.me == p.a, PartialCsum: partial,
		})
		synctest.Wait()
	}
}

// flows are the kinds of super-packet.
var flows = []struct{ version, protocol int }{{4, 6}, {6, 6}, {4, 17}, {6, 17}}

func TestASuperPacketCrossesAsOne(t *testing.T) {
	for _, f := range flows {
		t.Run(fmt.Sprintf("IPv%d protocol %d", f.version, f.protocol), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := superPair(t, allOffloads, true)
				runs := 0
				p.a.socket.mu.Lock()
				p.a.socket.sendRun = func(i item) { runs++; p.b.socket.putItem(i) }
				p.a.socket.mu.Unlock()
				sent := flowOf(f.version, f.protocol, 80, 1<<20, noise(40*1400+77), 1400)
				p.a.device.putItem(sent)
				synctest.Wait()
				got := p.b.device.supers
				if runs != 1 || len(got) != 1 || !bytes.Equal(got[0].bytes, sent.bytes) || got[0].header != sent.header {
					t.Errorf("%d runs, %d super-packets", runs, len(got))
				}
				a, b := p.a.stats(), p.b.stats()
				if a.TxPackets != 41 || b.RxPackets != 41 || a.TxBytes != b.RxBytes || a.Fallbacks != (pipe.Fallbacks{}) {
					t.Errorf("a %+v, b %+v", a, b)
				}
				if want := allOffloads | pipe.OffloadPartialCsum; a.Offloads != want || b.Offloads != want || a.Engine != "go" {
					t.Errorf("in force: %v, %v", a.Offloads.Names(), b.Offloads.Names())
				}
			})
		})
	}
}

// Whatever is on and whatever is lost, the packets that come out are those that the
// kernel would have made, each whole and with a right checksum.
func TestWhatCrossesIsWhatTheKernelWouldHaveSent(t *testing.T) {
	const device = allOffloads &^ (pipe.OffloadUDPGSO | pipe.OffloadUDPGRO)
	tests := []struct {
		name     string
		offloads pipe.Offloads
		partial  bool
		singly   bool // the device refuses super-packets
		loss     int  // one of so many
	}{
		{"all on", allOffloads, true, false, 0},
		{"loss", allOffloads, true, false, 10},
		{"much loss", allOffloads, true, false, 2},
		{"no partial checksums", allOffloads, false, false, 0},
		{"no partial checksums, loss", allOffloads, false, false, 10},
		{"sockets off", device, true, false, 10},
		{"device off", pipe.OffloadUDPGSO | pipe.OffloadUDPGRO, true, false, 10},
		{"all off", 0, false, false, 10},
		{"device refuses", allOffloads, true, true, 10},
		{"device refuses, no partial checksums", allOffloads, false, true, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := superPair(t, tt.offloads, tt.partial)
				p.b.device.singly = tt.singly
				testSuperPackets(t, p, tt.loss)
				s := p.b.stats()
				if s.Drops != (pipe.Drops{}) {
					t.Errorf("dropped %+v", s.Drops)
				}
				if refused := s.Fallbacks.Writes > 0; refused != tt.singly {
					t.Errorf("%d super-packets written singly", s.Fallbacks.Writes)
				}
				if slow := p.a.stats().Fallbacks.Checksums > 0; slow == tt.partial {
					t.Errorf("%d checksums completed", p.a.stats().Fallbacks.Checksums)
				}
			})
		})
	}
}

// testSuperPackets sends a mixture of flows from a to b over a link that loses.
func testSuperPackets(t *testing.T, p pair, loss int) {
	t.Helper()
	var lost atomic.Int64
	keep := func() bool {
		drop := loss > 0 && rand.IntN(loss) == 0
		if drop {
			lost.Add(1)
		}
		return !drop
	}
	p.a.socket.mu.Lock()
	p.a.socket.send = func(d []byte) {
		if keep() {
			p.b.socket.put(d)
		}
	}
	p.a.socket.sendRun = func(run item) { // a hole ends a run
		var left []byte
		for d := range slices.Chunk(run.bytes, run.size) {
			if keep() {
				left = append(left, d...)
				continue
			}
			if len(left) > 0 {
				p.b.socket.putItem(item{bytes: left, size: run.size})
			}
			left = nil
		}
		if len(left) > 0 {
			p.b.socket.putItem(item{bytes: left, size: run.size})
		}
	}
	p.a.socket.mu.Unlock()
	var want [][]byte
	seq := uint32(1 << 20)
	for round := range 60 {
		f := flows[round%len(flows)]
		size := []int{1400, 1392, 100, 31, 700}[rand.IntN(5)]
		n := 1 + rand.IntN(min(44, 50000/size)*size)
		for range rand.IntN(3) + 1 {
			i := flowOf(f.version, f.protocol, 80+round%3, seq, noise(n), size)
			seq += uint32(n)
			want = append(want, cut(i.header, slices.Clone(i.bytes))...)
			p.a.device.putItem(i)
		}
		synctest.Wait()
	}
	got := p.b.device.got()
	if len(got)+int(lost.Load()) != len(want) {
		t.Errorf("%d packets came, %d were lost, of %d", len(got), lost.Load(), len(want))
	}
	for _, w := range want {
		if len(got) > 0 && bytes.Equal(got[0], w) {
			got = got[1:]
		}
	}
	if len(got) > 0 {
		t.Errorf("%d packets are none that was sent, or out of order, from %x", len(got), got[0][:40])
	}
}

// A super-packet may be cut into more segments, and grow more, than one round takes.
func TestASuperPacketOfVeryManySegmentsTakesSeveralRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := superPair(t, allOffloads, true)
		sent := flowOf(4, 6, 80, 0, noise(60000), 20)
		p.a.device.putItem(sent)
		synctest.Wait()
		if got := p.b.device.got(); !slices.EqualFunc(got, cut(sent.header, sent.bytes), bytes.Equal) {
			t.Errorf("%d packets", len(got))
		}
	})
}

func TestAPeerWithoutTheFeatureMayNotSendPartialChecksums(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := superPair(t, allOffloads, false)
		packet := flowOf(4, 17, 80, 0, noise(100), 1000).bytes
		p.b.socket.put(sealFlagged(p.a, packet, 1000))
		if s := p.b.stats(); s.Drops.Malformed != 1 || s.RxPackets != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A flagged packet whose checksum the receiver does not find is dropped.
func TestAPartialChecksumThatIsNotFoundIsMalformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := superPair(t, allOffloads, true)
		fragment := flowOf(4, 17, 80, 0, noise(100), 1000).bytes
		fragment[6] = 0x20
		p.b.socket.put(sealFlagged(p.a, fragment, 1000))
		if s := p.b.stats(); s.Drops.Malformed != 1 || s.RxPackets != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// sealFlagged seals a packet as n would, flagged.
func sealFlagged(n *node, packet []byte, number wire.PacketNumber) []byte {
	s := n.path.control.keyring.sending
	header := wire.Header{Type: wire.TypeData, Flags: wire.FlagPartialChecksum, Index: s.sendIndex, Number: number}.Append(nil)
	nonce := keys.Nonce(s.epoch.send.key.IV, s.generation, number)
	return s.epoch.send.cipher.Seal(header, nonce[:], packet, header)
}

// A run in which single datagrams are forged or replayed loses these and no others.
func TestForgedAndReplayedDatagramsInARunHarmNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := superPair(t, allOffloads, true)
		p.a.socket.mu.Lock()
		p.a.socket.sendRun = func(run item) {
			b, size := slices.Clone(run.bytes), run.size
			b[5*size+20] ^= 1                         // forged
			copy(b[9*size:10*size], b[8*size:9*size]) // replayed within the run
			p.b.socket.putItem(item{bytes: b, size: size})
			p.b.socket.putItem(run) // and as a whole
		}
		p.a.socket.mu.Unlock()
		sent := flowOf(4, 6, 80, 7, noise(30*1000), 1000)
		p.a.device.putItem(sent)
		s := p.b.stats()
		if s.Drops.Auth != 1 || s.Drops.Replay != 1+28 || s.RxPackets != 30 {
			t.Errorf("%+v, %d packets", s.Drops, s.RxPackets)
		}
		got, want := p.b.device.got(), cut(sent.header, sent.bytes)
		late := [][]byte{want[5], want[9]}
		want = append(slices.Concat(want[:5], want[6:9], want[10:]), late...)
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d packets, want %d", len(got), len(want))
		}
	})
}

// newSuperLoops is newLoops with all offloads, over a super-packet of count segments of that size.
func newSuperLoops(tb testing.TB, count, size int) (*outbound, *inbound, *tape) {
	tb.Helper()
	o, i, d := newLoops(tb, keys.AES256GCM)
	t := *o.table.Load()
	t.offloads = allOffloads
	t.send.epoch.partial = true
	o.table.Store(&t)
	super := flowOf(4, 6, 80, 0, noise(count*size), size)
	d.packet, d.header, d.keepRun = super.bytes, super.header, true
	return o, i, d
}

// What allowed_ips permits no more does not pass as the continuation of what it did.
func TestNothingContinuesAPacketThatPassedByAnotherTable(t *testing.T) {
	o, i, d := newSuperLoops(t, 8, 1400)
	d.packets = 1
	if err := o.work(); err != nil {
		t.Fatal(err)
	}
	after := *o.table.Load()
	after.sources = newSources([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")})
	run, size := slices.Clone(d.run), d.size
	for _, part := range [][]byte{run[:3*size], run[3*size:]} {
		if err := i.receive(part, size, 0); err != nil {
			t.Fatal(err)
		}
		o.table.Store(&after)
	}
	if err := i.drain(); err != nil {
		t.Fatal(err)
	}
	if got, refused := i.counters.packets.Load(), i.counters.source.Load(); got != 3 || refused != 5 {
		t.Errorf("%d packets delivered, %d refused", got, refused)
	}
}

func TestSuperPacketsAllocateNothing(t *testing.T) {
	o, i, d := newSuperLoops(t, 40, 1400)
	pristine := slices.Clone(d.packet)
	allocs := testing.AllocsPerRun(100, func() {
		copy(d.packet, pristine)
		d.packets = 1
		if err := o.work(); err != nil {
			t.Fatal(err)
		}
		d.received = 1
		if err := i.batch(); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 || d.sent != 101*40 || i.counters.packets.Load() != 101*40 || d.written != 101 {
		t.Errorf("%v allocations, %d sent, %d received, %d written", allocs, d.sent, i.counters.packets.Load(), d.written)
	}
}

func BenchmarkSuperPacket(b *testing.B) { benchmarkSuperPacket(b, func(*epoch) {}) }

// benchmarkSuperPacket carries super-packets of 43 packets out and in again.
func benchmarkSuperPacket(b *testing.B, adjust func(e *epoch)) {
	o, i, d := newSuperLoops(b, 43, 1392)
	adjust(o.table.Load().send.epoch)
	b.ReportAllocs()
	b.SetBytes(int64(len(d.packet)))
	for b.Loop() {
		d.packets, d.received = 1, 1
		if err := errors.Join(o.work(), i.batch()); err != nil {
			b.Fatal(err)
		}
	}
	if got := i.counters.packets.Load(); d.written == 0 || got != uint64(43*d.written) {
		b.Errorf("%d written, %d packets", d.written, got)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(43*d.written), "ns/segment")
}
