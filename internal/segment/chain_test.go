package segment_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"tund/internal/segment"
)

// garbage is a buffer in which nothing is zero by luck.
func garbage(size int) []byte {
	return bytes.Repeat([]byte{0xdb}, size)
}

func newChain(t *testing.T, mode segment.Mode) (*segment.Chain, *device) {
	t.Helper()
	return segment.NewChain(mode, garbage(segment.MinBuffer)), &device{t: t, mode: mode}
}

func TestChainJoinsWhatWasSplit(t *testing.T) {
	for seed := range uint64(600) {
		r := random(t, seed)
		spec := randomSpec(r)
		spec.flags &^= cwr | urg
		spec.ipOptions, spec.extensions, spec.kinds, spec.final = nil, nil, nil, nil
		spec.payload = spec.payload[:min(len(spec.payload), segment.MaxSegments*spec.size)]
		if len(spec.payload) <= spec.size {
			continue
		}
		want, packet := spec.super()
		for _, flagged := range []bool{true, false} {
			c, d := newChain(t, spec.mode)
			d.feed(c, spec.arrivals(flagged))
			d.drain(c)
			comparePackets(t, "joined", d.supers, [][]byte{packet})
			if d.headers[0] != want {
				t.Fatalf("header %+v, want %+v", d.headers[0], want)
			}
		}
	}
}

func TestChainDeliversEachPacketOnceAndUnchanged(t *testing.T) {
	for seed := range uint64(600) {
		r := random(t, seed)
		mode := segment.Mode(1 + r.IntN(2))
		arrivals := randomArrivals(r, mode)
		batches := randomBatches(r, arrivals)
		for name, feed := range map[string]func(d *device, c *segment.Chain, buffer []byte, a []arrival){
			"one by one": func(d *device, c *segment.Chain, _ []byte, a []arrival) { d.feed(c, a) },
			"many":       func(d *device, c *segment.Chain, buffer []byte, a []arrival) { d.feedMany(c, buffer, a) },
		} {
			buffer := garbage(segment.MinBuffer + r.IntN(1<<17))
			c, d := segment.NewChain(mode, buffer), &device{t: t, mode: mode}
			for _, batch := range batches {
				feed(d, c, buffer, batch)
				d.drain(c)
			}
			comparePackets(t, name, canonical(mode, d.packets), canonical(mode, wanted(arrivals)))
		}
	}
}

// randomArrivals mixes flows that are alike in parts, with losses, changed order, damage
// and packets of other kinds.
func randomArrivals(r *rand.Rand, mode segment.Mode) []arrival {
	var all []arrival
	for range 1 + r.IntN(6) {
		s := randomSpec(r)
		if s.mode = mode; mode == segment.TUN {
			s.vlans = 0
		}
		if r.IntN(2) == 0 {
			s.flags &^= cwr | fin
		}
		s.payload = s.payload[:min(len(s.payload), 40*s.size)]
		flow := s.arrivals(s.locatable() && r.IntN(3) > 0)
		all = append(all, disturb(r, flow)...)
		for range r.IntN(3) {
			all = append(all, stray(r, s))
		}
	}
	if r.IntN(3) == 0 {
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	for i := range all {
		switch r.IntN(20) {
		case 0:
			all[i].fate = fails
		case 1:
			all[i].fate = refused
		}
	}
	return all
}

// disturb loses, exchanges and damages some packets of a flow.
func disturb(r *rand.Rand, flow []arrival) []arrival {
	if r.IntN(2) == 0 {
		return flow
	}
	for range 1 + r.IntN(4) {
		if len(flow) < 2 {
			return flow
		}
		i, j := r.IntN(len(flow)), r.IntN(len(flow))
		switch r.IntN(4) {
		case 0:
			flow = slices.Delete(flow, i, i+1)
		case 1:
			flow[i], flow[j] = flow[j], flow[i]
		case 2:
			flow = slices.Insert(flow, i, flow[j])
		case 3:
			if a := &flow[i]; !a.flagged { // a flagged one cannot be told from a good one
				p := bytes.Clone(a.packet)
				p[r.IntN(len(p))] ^= byte(1 + r.IntN(255))
				a.packet, a.complete = p, p
			}
		}
	}
	return flow
}

// stray returns a packet that continues nothing.
func stray(r *rand.Rand, s spec) arrival {
	switch r.IntN(4) {
	case 0: // pure acknowledgement, in sequence
		p := s.packet(nil, s.id+1, s.seq+uint32(s.size), ack, false)
		return arrive(p, p, false)
	case 1:
		p := randomBytes(r, 1+r.IntN(200))
		return arrive(p, p, false)
	case 2: // flagged, and no checksum in it
		return arrive(randomBytes(r, 1+r.IntN(20)), nil, true)
	default:
		p := s.packet(s.payload[:1], s.id, s.seq, s.flags|syn, false)
		return arrive(p, p, false)
	}
}

func randomBatches(r *rand.Rand, all []arrival) [][]arrival {
	var batches [][]arrival
	for len(all) > 0 {
		n := 1 + r.IntN(min(len(all), 64))
		batches = append(batches, all[:n])
		all = all[n:]
	}
	return batches
}

// follow is a flow in which the second packet is changed before it is written.
func follow(s spec, change func(second *spec, id *uint16, seq *uint32, flags *byte)) []arrival {
	second, id, seq, flags := s, s.id+1, s.seq+uint32(s.size), s.flags
	change(&second, &id, &seq, &flags)
	p := s.packet(s.payload[:s.size], s.id, s.seq, s.flags, false)
	q := second.packet(second.payload[:second.size], id, seq, flags, false)
	return []arrival{arrive(p, p, false), arrive(q, q, false)}
}

func TestChainJoinsOnlyPacketsThatBelongTogether(t *testing.T) {
	tcp := spec{mode: segment.TUN, ttl: 64, df: true, flags: ack, size: 100, payload: make([]byte, 300), tcpOptions: make([]byte, 12)}
	udp := spec{mode: segment.TAP, ttl: 64, udp: true, size: 100, payload: make([]byte, 300)}
	tests := map[string]struct {
		spec   spec
		change func(s *spec, id *uint16, seq *uint32, flags *byte)
		writes int
	}{
		"the next":                  {tcp, func(*spec, *uint16, *uint32, *byte) {}, 1},
		"the next, which pushes":    {tcp, func(_ *spec, _ *uint16, _ *uint32, f *byte) { *f |= psh }, 1},
		"the next, which ends":      {tcp, func(_ *spec, _ *uint16, _ *uint32, f *byte) { *f |= fin }, 1},
		"a shorter one":             {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.size = 99 }, 1},
		"the next datagram":         {udp, func(*spec, *uint16, *uint32, *byte) {}, 1},
		"a longer one":              {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.size = 101 }, 2},
		"the same again":            {tcp, func(s *spec, id *uint16, seq *uint32, _ *byte) { *id, *seq = s.id, s.seq }, 2},
		"another identification":    {tcp, func(_ *spec, id *uint16, _ *uint32, _ *byte) { *id++ }, 2},
		"the same identification":   {udp, func(_ *spec, id *uint16, _ *uint32, _ *byte) { *id-- }, 2},
		"another sequence number":   {tcp, func(_ *spec, _ *uint16, seq *uint32, _ *byte) { *seq++ }, 2},
		"another acknowledgement":   {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.ack++ }, 2},
		"another window":            {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.window++ }, 2},
		"another time to live":      {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.ttl++ }, 2},
		"another ECN mark":          {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.tos ^= 3 }, 2},
		"other bits of fragments":   {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.df = false }, 2},
		"other options":             {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.tcpOptions = make([]byte, 16) }, 2},
		"an option's other content": {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.tcpOptions = append(make([]byte, 11), 1) }, 2},
		"another echo":              {tcp, func(_ *spec, _ *uint16, _ *uint32, f *byte) { *f |= ece }, 2},
		"a reduced window":          {tcp, func(_ *spec, _ *uint16, _ *uint32, f *byte) { *f |= cwr }, 2},
		"urgent data":               {tcp, func(_ *spec, _ *uint16, _ *uint32, f *byte) { *f |= urg }, 2},
		"a reset":                   {tcp, func(_ *spec, _ *uint16, _ *uint32, f *byte) { *f |= rst }, 2},
		"a beginning":               {tcp, func(_ *spec, _ *uint16, _ *uint32, f *byte) { *f |= syn }, 2},
		"no acknowledgement":        {tcp, func(_ *spec, _ *uint16, _ *uint32, f *byte) { *f = 0 }, 2},
		"no payload":                {tcp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.size = 0 }, 2},
		"another VLAN":              {udp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.vlans = 1 }, 2},
		"another protocol":          {udp, func(s *spec, _ *uint16, _ *uint32, _ *byte) { s.udp = false }, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			arrivals := follow(tt.spec, tt.change)
			c, d := newChain(t, tt.spec.mode)
			d.feed(c, arrivals)
			d.drain(c)
			if d.writes != tt.writes {
				t.Errorf("%d writes, want %d", d.writes, tt.writes)
			}
			comparePackets(t, name, d.packets, wanted(arrivals))
		})
	}
}

func TestNothingFollowsThesePackets(t *testing.T) {
	base := spec{mode: segment.TUN, ttl: 64, flags: ack, size: 100, payload: make([]byte, 300)}
	tests := map[string]func(s *spec, p []byte){
		"pushed":                   func(s *spec, _ []byte) { s.flags |= psh },
		"ended":                    func(s *spec, _ []byte) { s.flags |= fin },
		"window reduced":           func(s *spec, _ []byte) { s.flags |= cwr },
		"wrong transport checksum": func(_ *spec, p []byte) { p[36] ^= 1 },
		"wrong IP checksum":        func(_ *spec, p []byte) { p[10] ^= 1 },
		"a checksum of all ones":   func(_ *spec, p []byte) { p[36], p[37] = 0xff, 0xff },
		"first fragment":           func(_ *spec, p []byte) { p[6] = 0x20; p[10] -= 0x20 },
		"UDP without checksum":     func(s *spec, _ []byte) { s.udp = true },
		"IPv4 options":             func(s *spec, _ []byte) { s.ipOptions = make([]byte, 4) },
		"IPv6 destination options": func(s *spec, _ []byte) { s.v6, s.kinds, s.extensions = true, []byte{60}, make([]byte, 8) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			s := base
			change(&s, make([]byte, 60))
			p := s.packet(s.payload[:100], s.id, s.seq, s.flags, false)
			change(&spec{}, p)
			if s.udp {
				binary.BigEndian.PutUint16(p[26:], 0)
			}
			s.flags = ack
			q := s.packet(s.payload[:100], s.id+1, s.seq+100, s.flags, false)
			arrivals := []arrival{arrive(p, p, false), arrive(q, q, false)}
			c, d := newChain(t, s.mode)
			d.feed(c, arrivals)
			d.drain(c)
			if d.writes != 2 {
				t.Errorf("%d writes, want 2", d.writes)
			}
			comparePackets(t, name, d.packets, wanted(arrivals))
		})
	}
}

func TestDamagedPacketIsNotRepairedByJoining(t *testing.T) {
	s := spec{mode: segment.TUN, ttl: 64, flags: ack, size: 100, payload: make([]byte, 500)}
	for damaged := range 5 {
		arrivals := s.arrivals(false)
		arrivals[damaged].packet[90] ^= 4
		arrivals[damaged].complete = arrivals[damaged].packet
		c, d := newChain(t, s.mode)
		d.feed(c, arrivals)
		d.drain(c)
		comparePackets(t, "damaged", d.packets, wanted(arrivals))
		if want := []int{2, 3, 3, 3, 2}[damaged]; d.writes != want {
			t.Errorf("packet %d damaged: %d writes, want %d", damaged, d.writes, want)
		}
	}
}

func TestFlaggedAndCompleteAreNotJoined(t *testing.T) {
	s := spec{mode: segment.TUN, v6: true, flags: ack, size: 100, payload: make([]byte, 400)}
	arrivals := append(s.arrivals(true)[:2], s.arrivals(false)[2:]...)
	c, d := newChain(t, s.mode)
	d.feed(c, arrivals)
	d.drain(c)
	if d.writes != 2 {
		t.Errorf("%d writes, want 2", d.writes)
	}
	comparePackets(t, "mixed", d.packets, wanted(arrivals))
}

func TestChainEndsAtItsLimits(t *testing.T) {
	tests := map[string]struct {
		size, packets, writes int
		mode                  segment.Mode
	}{
		"64 segments":      {10, 64, 1, segment.TUN},
		"65 segments":      {10, 65, 2, segment.TUN},
		"65535 bytes":      {(65535 - 40) / 5, 5, 1, segment.TAP},
		"more than 65535":  {(65535-40)/5 + 1, 5, 2, segment.TAP},
		"longest packets":  {65000, 3, 3, segment.TUN},
		"a long long flow": {1400, 200, 5, segment.TUN},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := spec{mode: tt.mode, flags: ack, ttl: 1, size: tt.size}
			s.payload = bytes.Repeat([]byte{1, 2, 3}, tt.size*tt.packets)[:tt.size*tt.packets]
			buffer := garbage(8 * segment.MinBuffer)
			c, d := segment.NewChain(s.mode, buffer), &device{t: t, mode: s.mode}
			d.feed(c, s.arrivals(true))
			d.drain(c)
			if d.writes != tt.writes {
				t.Errorf("%d writes, want %d", d.writes, tt.writes)
			}
			comparePackets(t, name, d.packets, wanted(s.arrivals(true)))
		})
	}
}

func TestChainJoinsOnlyTheProtocolsItMay(t *testing.T) {
	for _, udp := range []bool{false, true} {
		for _, may := range []bool{false, true} {
			s := spec{mode: segment.TUN, udp: udp, flags: ack, ttl: 1, size: 10, payload: make([]byte, 30)}
			c, d := newChain(t, s.mode)
			c.Join(may != udp, may == udp)
			d.feed(c, s.arrivals(true))
			d.drain(c)
			if want := map[bool]int{true: 1, false: 3}[may]; d.writes != want {
				t.Errorf("udp %v, may %v: %d writes, want %d", udp, may, d.writes, want)
			}
			comparePackets(t, "limited", d.packets, wanted(s.arrivals(true)))
		}
	}
}

// Of a super-packet that is opened in one call, nothing but the first packet is looked at
// beyond its headers.
func TestChainIsExtendedByHeadersAlone(t *testing.T) {
	for _, s := range []spec{{flags: ack}, {v6: true, flags: ack}, {udp: true}, {udp: true, v6: true}} {
		s.mode, s.size, s.payload = segment.TUN, 100, bytes.Repeat([]byte{7}, 3050)
		for _, flagged := range []bool{true, false} {
			buffer := garbage(segment.MinBuffer)
			c, d := segment.NewChain(s.mode, buffer), &device{t: t, mode: s.mode}
			d.feedMany(c, buffer, s.arrivals(flagged))
			d.drain(c)
			if want := map[bool]int{true: 30}[flagged]; d.extends != want || d.writes != 1 {
				t.Errorf("udp %t, v6 %t, flagged %t: %d writes, %d extended, want %d", s.udp, s.v6, flagged, d.writes, d.extends, want)
			}
			comparePackets(t, "extended", d.packets, wanted(s.arrivals(flagged)))
		}
	}
}

func TestChainRefusesWhatFitsNowhere(t *testing.T) {
	c, _ := newChain(t, segment.TUN)
	for _, n := range []int{-1, segment.MaxPacket + 1} {
		if c.Room(n) != nil || c.Take() != nil {
			t.Errorf("room for %d bytes", n)
		}
	}
	if c.Place(0, nil, 10) != nil || c.Place(segment.MinBuffer, nil, 10) != nil || c.Place(16, nil, segment.MaxPacket+1) != nil {
		t.Error("a place without room")
	}
	if c.Add(false) != segment.Malformed {
		t.Error("a packet was added that is not there")
	}
	if c.Room(segment.MaxPacket) == nil {
		t.Error("no room for the longest packet")
	}
}

func TestRoomAskedForTwiceLeavesNothingBehind(t *testing.T) {
	s := spec{mode: segment.TUN, v6: true, flags: ack, size: 100, payload: bytes.Repeat([]byte{7}, 300)}
	c, d := newChain(t, s.mode)
	for _, a := range s.arrivals(true) {
		d.feed(c, []arrival{a})
		if _, _, ok := c.Tail(); ok {
			dst := c.Room(150)
			copy(dst[:150], garbage(150))
		}
	}
	d.drain(c)
	comparePackets(t, "asked twice", d.packets, wanted(s.arrivals(true)))
}

func TestRefusedSuperPacketIsSplitAgainWhereItLies(t *testing.T) {
	s := spec{mode: segment.TAP, flags: ack | psh, ttl: 1, size: 100, payload: bytes.Repeat([]byte{1, 2}, 333)}
	c, d := newChain(t, s.mode)
	d.feed(c, s.arrivals(true))
	p := c.Take()
	h, err := segment.ParseVirtioHeader(p[:segment.VirtioSize])
	if err != nil {
		t.Fatal(err)
	}
	var splitter segment.Splitter
	if err := splitter.Begin(s.mode, h, p[segment.VirtioSize:], false); err != nil {
		t.Fatal(err)
	}
	comparePackets(t, "again", seal(&splitter), s.segments(false))
}

func TestChainDoesNotAllocate(t *testing.T) {
	c := segment.NewChain(segment.TUN, make([]byte, 2*segment.MinBuffer))
	flagged, complete := bulk.segments(true), bulk.segments(false)
	allocs := testing.AllocsPerRun(100, func() {
		if got := run(t, c, flagged, true) + run(t, c, complete, false); got < 2*len(bulk.payload) {
			t.Fatalf("%d bytes came out", got)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

// run carries packets through a chain and returns how many bytes came out.
func run(t testing.TB, c *segment.Chain, packets [][]byte, flagged bool) int {
	taken := 0
	for _, p := range packets {
		dst := c.Room(len(p))
		for dst == nil {
			taken += len(c.Take())
			dst = c.Room(len(p))
		}
		copy(dst[:len(p)], p)
		if c.Add(flagged) == segment.Malformed {
			t.Fatal("malformed")
		}
	}
	for p := c.Take(); p != nil; p = c.Take() {
		taken += len(p)
	}
	return taken
}

func BenchmarkChain(b *testing.B) {
	for name, flagged := range map[string]bool{"flagged": true, "complete": false} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			packets := bulk.segments(flagged)
			c := segment.NewChain(segment.TUN, make([]byte, 2*segment.MinBuffer))
			for b.Loop() {
				if run(b, c, packets, flagged) < len(bulk.payload) {
					b.Fatal("too little came out")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/45, "ns/packet")
		})
	}
}
