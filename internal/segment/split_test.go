package segment_test

import (
	"bytes"
	"errors"
	"testing"

	"tund/internal/segment"
)

// seal copies what Next gives, as sealing would, before the next call.
func seal(s *segment.Splitter) [][]byte {
	var packets [][]byte
	for {
		p, ok := s.Next()
		if !ok {
			return packets
		}
		packets = append(packets, bytes.Clone(p))
	}
}

// sealAside does the same with all headers made first.
func sealAside(s *segment.Splitter) [][]byte {
	var headers []byte
	var places, packets [][]byte
	for {
		var place []byte
		var ok bool
		if headers, place, ok = s.NextAside(headers); !ok {
			break
		}
		places = append(places, place)
	}
	for k, place := range places {
		copy(place, headers[k*s.HeaderSize():][:s.HeaderSize()])
		packets = append(packets, bytes.Clone(place))
	}
	return packets
}

func comparePackets(t *testing.T, what string, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d packets, want %d", what, len(got), len(want))
	}
	for k := range want {
		if !bytes.Equal(got[k], want[k]) {
			t.Fatalf("%s: packet %d of %d is\n%x, want\n%x", what, k, len(want), head(got[k]), head(want[k]))
		}
	}
}

func head(p []byte) []byte { return p[:min(len(p), 160)] }

func TestSplitEqualsTheSlowVersionByteForByte(t *testing.T) {
	var s segment.Splitter
	for seed := range uint64(800) {
		spec := randomSpec(random(t, seed))
		h, packet := spec.super()
		comparePackets(t, "slow versions", slowSplit(spec.mode, h, packet), spec.segments(false))
		for _, partial := range []bool{true, false} {
			want := spec.segments(partial && spec.locatable())
			for name, sealAll := range map[string]func(*segment.Splitter) [][]byte{"in place": seal, "aside": sealAside} {
				buffer := bytes.Clone(packet)
				if err := s.Begin(spec.mode, h, buffer, partial); err != nil {
					t.Fatalf("seed %d: %v: %+v", seed, err, spec)
				}
				if s.Count() != len(want) {
					t.Fatalf("seed %d: Count %d, want %d", seed, s.Count(), len(want))
				}
				if s.Partial() != (partial && spec.locatable()) || s.Completed() == s.Partial() {
					t.Fatalf("seed %d: Partial %v, Completed %v", seed, s.Partial(), s.Completed())
				}
				comparePackets(t, name, sealAll(&s), want)
			}
		}
	}
}

func TestSinglePacketKeepsOrCompletesItsPartialChecksum(t *testing.T) {
	var s segment.Splitter
	for seed := range uint64(500) {
		spec := randomSpec(random(t, seed))
		spec.payload = spec.payload[:min(len(spec.payload), 1400)]
		h, packet := spec.super()
		h.Type, h.Size = segment.GSONone, 0
		for _, partial := range []bool{true, false} {
			keeps := partial && spec.locatable()
			want := bytes.Clone(packet)
			if !keeps {
				slowComplete(want, h)
			}
			if err := s.Begin(spec.mode, h, bytes.Clone(packet), partial); err != nil {
				t.Fatal(err)
			}
			if s.Partial() != keeps || s.Completed() == keeps || s.Count() != 1 {
				t.Fatalf("seed %d: Partial %v, Completed %v, Count %d", seed, s.Partial(), s.Completed(), s.Count())
			}
			comparePackets(t, "single", seal(&s), [][]byte{want})
		}
	}
}

func TestPacketWithoutPartialChecksumIsLeftAlone(t *testing.T) {
	var s segment.Splitter
	for _, flags := range []segment.Flags{0, segment.DataValid} {
		packet := []byte("anything")
		if err := s.Begin(segment.TAP, segment.VirtioHeader{Flags: flags}, packet, true); err != nil {
			t.Fatal(err)
		}
		if s.Partial() || s.Completed() || s.HeaderSize() != 0 {
			t.Error("it was looked at")
		}
		comparePackets(t, "single", seal(&s), [][]byte{[]byte("anything")})
	}
}

func TestPartialChecksumThatTheReceiverWouldNotFindIsCompleted(t *testing.T) {
	udp := spec{mode: segment.TUN, udp: true, ttl: 9, size: 100, payload: make([]byte, 120)}
	_, packet := udp.super()
	// As in a VXLAN packet, the checksum to complete is one further inside.
	h := segment.VirtioHeader{Flags: segment.NeedsCsum, ChecksumStart: 60, ChecksumOffset: 16}
	want := bytes.Clone(packet)
	slowComplete(want, h)
	var s segment.Splitter
	if err := s.Begin(segment.TUN, h, packet, true); err != nil {
		t.Fatal(err)
	}
	if s.Partial() || !s.Completed() {
		t.Errorf("Partial %v, Completed %v", s.Partial(), s.Completed())
	}
	comparePackets(t, "single", seal(&s), [][]byte{want})
}

func TestPartialChecksumThatTheReceiverWouldChangeIsCompleted(t *testing.T) {
	for _, size := range []uint16{0, 100} {
		tcp := spec{mode: segment.TUN, ttl: 9, flags: ack, size: 100, payload: make([]byte, 250)}
		h, packet := tcp.super()
		if h.Size = size; size == 0 {
			h.Type = segment.GSONone
		}
		packet[36] ^= 1 // the field: a source route, say
		want := slowSplit(segment.TUN, h, packet)
		var s segment.Splitter
		if err := s.Begin(segment.TUN, h, packet, true); err != nil {
			t.Fatal(err)
		}
		if s.Partial() || !s.Completed() {
			t.Errorf("Partial %v, Completed %v", s.Partial(), s.Completed())
		}
		comparePackets(t, "completed", seal(&s), want)
	}
}

func TestVerifiedSuperPacketWithoutPartialChecksumIsSplit(t *testing.T) {
	tcp := spec{mode: segment.TAP, v6: true, flags: ack | psh, size: 500, payload: make([]byte, 1700)}
	h, _ := tcp.super()
	h.Flags, h.ChecksumStart, h.ChecksumOffset = segment.DataValid, 0, 0
	var s segment.Splitter
	packet := tcp.packet(tcp.payload, tcp.id, tcp.seq, tcp.flags, false)
	if err := s.Begin(segment.TAP, h, packet, true); err != nil {
		t.Fatal(err)
	}
	comparePackets(t, "verified", seal(&s), tcp.segments(true))
}

func TestBeginRefusesWhatDoesNotFit(t *testing.T) {
	base := spec{mode: segment.TUN, flags: ack, ttl: 3, size: 100, payload: make([]byte, 300)}
	base6 := spec{mode: segment.TUN, v6: true, flags: ack, size: 100, payload: make([]byte, 300)}
	tests := map[string]struct {
		spec   spec
		change func(h *segment.VirtioHeader, p *[]byte)
		want   error
	}{
		"segments of no size":        {base, func(h *segment.VirtioHeader, _ *[]byte) { h.Size = 0 }, segment.ErrSuperPacket},
		"another version":            {base, func(h *segment.VirtioHeader, _ *[]byte) { h.Type = segment.GSOTCPv6 }, segment.ErrSuperPacket},
		"another protocol":           {base, func(h *segment.VirtioHeader, _ *[]byte) { h.Type = segment.GSOUDP }, segment.ErrSuperPacket},
		"checksum elsewhere":         {base, func(h *segment.VirtioHeader, _ *[]byte) { h.ChecksumStart = 24 }, segment.ErrChecksum},
		"another field":              {base, func(h *segment.VirtioHeader, _ *[]byte) { h.ChecksumOffset = 6 }, segment.ErrChecksum},
		"no checksum, not verified":  {base, func(h *segment.VirtioHeader, _ *[]byte) { h.Flags = 0 }, segment.ErrChecksum},
		"verified, but not found":    {base, func(h *segment.VirtioHeader, p *[]byte) { h.Flags = segment.DataValid; (*p)[9] = 1 }, segment.ErrChecksum},
		"a fragment":                 {base, func(_ *segment.VirtioHeader, p *[]byte) { (*p)[6] = 0x20 }, segment.ErrSuperPacket},
		"a byte too many":            {base, func(_ *segment.VirtioHeader, p *[]byte) { *p = append(*p, 0) }, segment.ErrSuperPacket},
		"a byte too few":             {base, func(_ *segment.VirtioHeader, p *[]byte) { *p = (*p)[:len(*p)-1] }, segment.ErrSuperPacket},
		"nothing":                    {base, func(_ *segment.VirtioHeader, p *[]byte) { *p = nil }, segment.ErrSuperPacket},
		"TCP header too long":        {base6, func(_ *segment.VirtioHeader, p *[]byte) { *p = (*p)[:70]; (*p)[5] = 30 }, segment.ErrSuperPacket},
		"TCP header too short":       {base, func(_ *segment.VirtioHeader, p *[]byte) { (*p)[32] = 0x40 }, segment.ErrSuperPacket},
		"IPv6 fragment header":       {base6, func(h *segment.VirtioHeader, p *[]byte) { (*p)[6] = 44; h.ChecksumStart = 48 }, segment.ErrSuperPacket},
		"extension beyond the start": {base6, func(h *segment.VirtioHeader, p *[]byte) { (*p)[6] = 60; (*p)[41] = 9; h.ChecksumStart = 48 }, segment.ErrSuperPacket},
		"start beyond the packet":    {base6, func(h *segment.VirtioHeader, _ *[]byte) { h.ChecksumStart = 60000 }, segment.ErrChecksum},
		"single, start beyond it":    {base, func(h *segment.VirtioHeader, _ *[]byte) { h.Type = 0; h.ChecksumStart = 60000 }, segment.ErrChecksum},
		"single, field beyond it":    {base, func(h *segment.VirtioHeader, p *[]byte) { h.Type = 0; *p = (*p)[:37] }, segment.ErrChecksum},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h, packet := tt.spec.super()
			tt.change(&h, &packet)
			var s segment.Splitter
			if err := s.Begin(segment.TUN, h, packet, true); !errors.Is(err, tt.want) {
				t.Errorf("Begin = %v, want %v", err, tt.want)
			}
			if _, ok := s.Next(); ok {
				t.Error("there is a segment")
			}
		})
	}
}

func TestSplitterDoesNotAllocate(t *testing.T) {
	h, packet := bulk.super()
	buffer := bytes.Clone(packet)
	headers := make([]byte, 0, 1<<14)
	var s segment.Splitter
	for _, partial := range []bool{true, false} {
		allocs := testing.AllocsPerRun(100, func() {
			copy(buffer, packet)
			if err := s.Begin(segment.TUN, h, buffer, partial); err != nil {
				t.Fatal(err)
			}
			for ok := true; ok; {
				_, ok = s.Next()
			}
			copy(buffer, packet)
			if err := s.Begin(segment.TUN, h, buffer, partial); err != nil {
				t.Fatal(err)
			}
			aside := headers
			for ok := true; ok; {
				aside, _, ok = s.NextAside(aside)
			}
			if err := s.Begin(segment.TUN, h, buffer[1:], partial); err == nil {
				t.Fatal("no error")
			}
		})
		if allocs != 0 {
			t.Errorf("%v allocations, want 0", allocs)
		}
	}
}

// bulk is what a TCP stream looks like.
var bulk = spec{
	mode: segment.TUN, ttl: 64, df: true, flags: ack | psh, window: 500,
	tcpOptions: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, size: 1400, payload: make([]byte, 45*1400),
}

func BenchmarkSplit(b *testing.B) {
	h, packet := bulk.super()
	buffer := bytes.Clone(packet)
	for name, partial := range map[string]bool{"partial": true, "completed": false} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(packet)))
			var s segment.Splitter
			for b.Loop() {
				copy(buffer, packet[:52]) // the headers, which are all that matters
				if err := s.Begin(segment.TUN, h, buffer, partial); err != nil {
					b.Fatal(err)
				}
				for ok := true; ok; {
					_, ok = s.Next()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/45, "ns/segment")
		})
	}
}
