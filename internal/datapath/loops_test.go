package datapath

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/segment"
	"tund/internal/tuntap"
	"tund/internal/udp"
	"tund/internal/wire"
)

// tape is a device and a socket that allocate nothing: what is read is always the
// same, and what is written is counted.
type tape struct {
	packet   []byte
	packets  int // still to be read
	next     func() []byte
	received int // still to be received
	written  int
	sent     int
	answers  int

	header  segment.VirtioHeader // of packet
	keepRun bool                 // what is sent as one run is received as one
	run     []byte
	size    int

	keep      bool
	datagrams [][]byte // copies of what was sent, if keep
}

func (d *tape) Read(p []byte) (int, error) {
	if d.packets == 0 {
		return 0, tuntap.ErrWouldBlock
	}
	d.packets--
	d.header.Append(p[:0])
	return tuntap.HeaderSize + copy(p[tuntap.HeaderSize:], d.packet), nil
}

func (d *tape) Recv(p []byte) (n, size int, err error) {
	if d.received == 0 {
		return 0, 0, udp.ErrWouldBlock
	}
	d.received--
	if d.keepRun {
		return copy(p, d.run), d.size, nil
	}
	n = copy(p, d.next())
	return n, n, nil
}

func (d *tape) Write(p []byte) (int, error) { d.written++; return len(p), nil }
func (d *tape) SetGSO(bool) bool            { return false }
func (d *tape) Backlog() int                { return d.received }
func (d *tape) Crowded() bool               { return false }
func (d *tape) SetGRO(bool) bool            { return false }
func (d *tape) Send([]byte) (bool, error)   { d.answers++; return true, nil }
func (d *tape) Wait(int) error              { return nil }
func (d *tape) Counters() udp.Counters      { return udp.Counters{} }

func (d *tape) SendRuns(runs []udp.Run) (int, error) {
	sent := 0
	for _, r := range runs {
		sent += (len(r.Bytes) + r.Size - 1) / r.Size
		for rest := r.Bytes; d.keep && len(rest) > 0; rest = rest[min(r.Size, len(rest)):] {
			d.datagrams = append(d.datagrams, slices.Clone(rest[:min(r.Size, len(rest))]))
		}
	}
	if d.keepRun {
		d.run, d.size = runs[0].Bytes, runs[0].Size
	}
	d.sent += sent
	return sent, nil
}

// newLoops makes both loops over one tape, with a key whose two sides are the same.
func newLoops(tb testing.TB, suite keys.AEAD) (*outbound, *inbound, *tape) {
	tb.Helper()
	d := &tape{packet: packet("", make([]byte, 1380)...)}
	sh := &shared{
		now: func() time.Duration { return 0 }, limits: ProtocolLimits(), socket: d,
		wake: make(chan struct{}, 1), answers: make(chan answered, 1),
	}
	engine, err := aead.Open(aead.ChooseGo)
	if err != nil {
		tb.Fatal(err)
	}
	k := &keyring{limits: &sh.limits, engine: engine}
	s, err := k.install(&pipe.InstallKey{
		KeyID: 1, Epoch: 1, AEAD: suite, Send: dataKey(1, 1), Receive: dataKey(1, 1), SendIndex: 7, ReceiveIndex: 7,
	}, 0)
	if err != nil || !k.activate(s) {
		tb.Fatal(err)
	}
	sh.table.Store(&table{
		lifetime: time.Hour, send: k.sending, receive: k.receiving(),
		sources: newSources([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")}),
	})
	return newOutbound(sh, pipe.ModeTUN, d), newInbound(sh, pipe.ModeTUN, d), d
}

// sealing returns a function that makes a fresh datagram at each call, and allocates nothing.
func sealing(o *outbound, t wire.Type, payload []byte) func() []byte {
	s := o.table.Load().send
	d := make([]byte, len(payload)+wire.Overhead)
	var nonce [12]byte
	return func() []byte {
		n := s.epoch.send.reserve(&o.limits, 1, len(payload)).first
		header := wire.Header{Type: t, Index: s.sendIndex, Number: n}.Append(d[:0])
		nonce = keys.Nonce(s.epoch.send.key.IV, s.generation, n)
		s.epoch.send.cipher.Seal(d[:wire.HeaderSize], nonce[:], payload, header)
		return d
	}
}

var aeads = []keys.AEAD{keys.AES256GCM, keys.ChaCha20Poly1305}

func TestOutboundAllocatesNothing(t *testing.T) {
	for _, aead := range aeads {
		o, _, d := newLoops(t, aead)
		allocs := testing.AllocsPerRun(100, func() {
			d.packets = batchPackets
			for d.packets > 0 {
				if err := o.work(); err != nil {
					t.Fatal(err)
				}
			}
		})
		if allocs != 0 || d.sent != 101*batchPackets {
			t.Errorf("%v: %v allocations, %d sent", aead, allocs, d.sent)
		}
	}
}

func TestInboundAllocatesNothing(t *testing.T) {
	for _, aead := range aeads {
		o, i, d := newLoops(t, aead)
		d.next = sealing(o, wire.TypeData, d.packet)
		allocs := testing.AllocsPerRun(100, func() {
			d.received = batchPackets
			if err := i.batch(); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 || d.written != 101*batchPackets {
			t.Errorf("%v: %v allocations, %d written", aead, allocs, d.written)
		}
	}
}

func TestProbesAndRefusalsAllocateNothing(t *testing.T) {
	o, i, d := newLoops(t, keys.AES256GCM)
	probe := wire.Probe{Kind: wire.ProbeRequest, ID: 1}.Append(nil, wire.ProbeSize)
	good := sealing(o, wire.TypeProbe, probe)
	refused := [][]byte{{}, make([]byte, 100), slices.Clone(good()), slices.Clone(good())}
	refused[2][11] ^= 0x80
	turn := 0
	d.next = func() []byte {
		if turn++; turn%5 == 0 {
			return good()
		}
		return refused[turn%len(refused)]
	}
	allocs := testing.AllocsPerRun(100, func() {
		d.received = batchPackets
		if err := i.batch(); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 || d.answers == 0 || i.counters.malformed.Load() == 0 || i.counters.replay.Load() == 0 {
		t.Errorf("%v allocations, %d answers", allocs, d.answers)
	}
}

func TestABatchIsSealedAsEachDatagramAlone(t *testing.T) {
	o, _, d := newLoops(t, keys.AES256GCM)
	twin, _, _ := newLoops(t, keys.AES256GCM)
	want := sealing(twin, wire.TypeData, d.packet)
	d.packets, d.keep = 40, true
	if err := o.work(); err != nil {
		t.Fatal(err)
	}
	for i, got := range d.datagrams {
		if !slices.Equal(got, want()) {
			t.Fatalf("datagram %d differs", i)
		}
	}
	if len(d.datagrams) != 40 {
		t.Errorf("%d datagrams", len(d.datagrams))
	}
}

func BenchmarkOutbound(b *testing.B) {
	for _, aead := range aeads {
		b.Run(aead.String(), func(b *testing.B) {
			o, _, d := newLoops(b, aead)
			b.ReportAllocs()
			b.SetBytes(int64(len(d.packet)))
			for b.Loop() {
				// One packet is the dearest batch: all of its costs are this packet's.
				d.packets = 1
				if err := o.work(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInbound(b *testing.B) {
	for _, aead := range aeads {
		b.Run(aead.String(), func(b *testing.B) {
			o, i, d := newLoops(b, aead)
			next := sealing(o, wire.TypeData, d.packet)
			var ready [batchPackets][]byte
			at := batchPackets
			d.next = func() []byte { at++; return ready[at-1] }
			b.ReportAllocs()
			b.SetBytes(int64(len(d.packet)))
			for b.Loop() {
				if at == batchPackets {
					b.StopTimer()
					for j := range ready {
						ready[j] = append(ready[j][:0], next()...)
					}
					at = 0
					b.StartTimer()
				}
				d.received = 1
				if err := i.batch(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzInbound takes arbitrary datagrams, and arbitrary payloads sealed rightly: what is
// written to the device is well-formed, and each datagram is accounted for once.
func FuzzInbound(f *testing.F) {
	o, _, d := newLoops(f, keys.AES256GCM)
	f.Add(slices.Clone(sealing(o, wire.TypeData, d.packet)()), uint8(0))
	f.Add([]byte{}, uint8(0))
	f.Add(packet(""), uint8(wire.TypeData))
	f.Add(packet("2001:db8::1", 9), uint8(wire.TypeData))
	f.Add(wire.Probe{Kind: wire.ProbeRequest, ID: 5}.Append(nil, 100), uint8(wire.TypeProbe))
	f.Add(wire.Probe{Kind: wire.ProbeAnswer, ID: 5}.Append(nil, 0), uint8(wire.TypeProbe))
	f.Fuzz(func(t *testing.T, p []byte, seal uint8) {
		o, i, d := newLoops(t, keys.AES256GCM)
		if len(p) > maxDatagram {
			return
		}
		datagram := p
		if kind := wire.Type(seal); (kind == wire.TypeData || kind == wire.TypeProbe) && len(p) <= maxPayload {
			datagram = sealing(o, kind, p)()
		}
		if err := errors.Join(i.receive(datagram, len(datagram), 0), i.drain()); err != nil {
			t.Fatal(err)
		}
		c := &i.counters
		ended := c.auth.Load() + c.malformed.Load() + c.unknown.Load() + c.source.Load() + c.replay.Load() + c.packets.Load()
		if wire.Type(seal) == wire.TypeProbe && c.malformed.Load() == 0 {
			ended += uint64(d.answers + len(i.answers))
		}
		if ended != 1 || uint64(d.written) != c.packets.Load() {
			t.Errorf("%d ends, %d written", ended, d.written)
		}
	})
}
