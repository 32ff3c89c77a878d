package segment_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"tund/internal/segment"
)

func TestVirtioHeaderHasTheseBytes(t *testing.T) {
	tests := map[string]struct {
		header segment.VirtioHeader
		bytes  []byte // as on a little-endian machine
	}{
		"nothing": {segment.VirtioHeader{}, make([]byte, 10)},
		"partial": {segment.VirtioHeader{Flags: segment.NeedsCsum, ChecksumStart: 34, ChecksumOffset: 16}, []byte{1, 0, 0, 0, 0, 0, 34, 0, 16, 0}},
		"TCP, CWR": {
			segment.VirtioHeader{Flags: 1, Type: segment.GSOTCPv4 | segment.GSOECN, HeaderLen: 0x102, Size: 1448, ChecksumStart: 20, ChecksumOffset: 16},
			[]byte{1, 0x81, 2, 1, 0xa8, 5, 20, 0, 16, 0},
		},
		"UDP": {segment.VirtioHeader{Flags: 1, Type: segment.GSOUDP, Size: 1}, []byte{1, 5, 0, 0, 1, 0, 0, 0, 0, 0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := tt.header.Append(nil)
			if little := (segment.VirtioHeader{Size: 1}).Append(nil)[4] == 1; little && !bytes.Equal(got, tt.bytes) {
				t.Errorf("Append = %x, want %x", got, tt.bytes)
			}
			if h, err := segment.ParseVirtioHeader(got); err != nil || h != tt.header {
				t.Errorf("ParseVirtioHeader = %+v, %v", h, err)
			}
		})
	}
}

func TestParseVirtioHeaderRefuses(t *testing.T) {
	tests := map[string]struct {
		bytes []byte
		want  error
	}{
		"nothing":             {nil, segment.ErrVirtioSize},
		"a byte less":         {make([]byte, 9), segment.ErrVirtioSize},
		"a byte more":         {make([]byte, 11), segment.ErrVirtioSize},
		"both flags":          {[]byte{3, 9: 0}, segment.ErrVirtioFlags},
		"coalesced by a host": {[]byte{4, 9: 0}, segment.ErrVirtioFlags},
		"an unknown flag":     {[]byte{0x80, 9: 0}, segment.ErrVirtioFlags},
		"UFO":                 {[]byte{1, 3, 9: 0}, segment.ErrVirtioType},
		"ECN alone":           {[]byte{1, 0x80, 9: 0}, segment.ErrVirtioType},
		"ECN with UDP":        {[]byte{1, 0x85, 9: 0}, segment.ErrVirtioType},
		"a tunnel's":          {[]byte{1, 0x21, 9: 0}, segment.ErrVirtioType},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := segment.ParseVirtioHeader(tt.bytes); !errors.Is(err, tt.want) {
				t.Errorf("ParseVirtioHeader error = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestVirtioHeaderDoesNotAllocate(t *testing.T) {
	buffer := make([]byte, 0, segment.VirtioSize)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := segment.ParseVirtioHeader(segment.VirtioHeader{Size: 5}.Append(buffer)); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

func FuzzParseVirtioHeader(f *testing.F) {
	f.Add(make([]byte, 10))
	f.Add([]byte{1, 0x81, 2, 1, 0xa8, 5, 20, 0, 16, 0})
	f.Add([]byte{2, 5, 0, 0, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := segment.ParseVirtioHeader(b)
		if err == nil && !bytes.Equal(h.Append(nil), b) {
			t.Errorf("Append = %x, parsed from %x", h.Append(nil), b)
		}
	})
}

// FuzzSplit gives the Splitter what no kernel would.
func FuzzSplit(f *testing.F) {
	for seed := range uint64(40) {
		spec := randomSpec(rand.New(rand.NewPCG(seed, 2)))
		spec.payload = spec.payload[:min(len(spec.payload), 3*spec.size, 400)]
		h, packet := spec.super()
		f.Add(spec.mode == segment.TAP, seed%2 == 0, h.Append(nil), packet)
	}
	var s segment.Splitter
	f.Fuzz(func(t *testing.T, tap, partial bool, header, packet []byte) {
		h, err := segment.ParseVirtioHeader(header)
		if err != nil {
			return
		}
		mode := segment.TUN
		if tap {
			mode = segment.TAP
		}
		original := bytes.Clone(packet)
		if err := s.Begin(mode, h, packet, partial); err != nil {
			if s.Count() != 0 {
				t.Fatalf("an error and %d segments", s.Count())
			}
			return
		}
		if h.Type != segment.GSONone && h.Flags != segment.NeedsCsum {
			return // its checksum is worth nothing to the slow version
		}
		want := slowSplit(mode, h, original)
		got := seal(&s)
		if s.Partial() { // to be received
			for _, p := range got {
				h, ok := segment.Accept(mode, p)
				if !ok {
					t.Fatalf("partial, but not accepted: %x", head(p))
				}
				if len(want) > 1 {
					h.Type = segment.GSOTCPv4 // of two equal sums the one for segments
				}
				slowComplete(p, h)
			}
		}
		comparePackets(t, "split", got, want)
	})
}

// FuzzSplitAndJoin splits super-packets of any form and joins them again.
func FuzzSplitAndJoin(f *testing.F) {
	f.Add(uint64(1), uint16(1400), uint16(20000), byte(0x10), true)
	f.Add(uint64(2), uint16(1), uint16(70), byte(0x19), false)
	f.Add(uint64(3), uint16(500), uint16(501), byte(0x90), true)
	f.Add(uint64(4), uint16(9000), uint16(65000), byte(0x11), false)
	buffer := make([]byte, segment.MinBuffer+1<<17)
	var s segment.Splitter
	f.Fuzz(func(t *testing.T, seed uint64, size, length uint16, flags byte, partial bool) {
		spec := randomSpec(random(t, seed))
		spec.size, spec.flags = max(1, int(size)), flags
		spec.payload = bytes.Repeat([]byte{byte(seed), 3, 5}, int(length)/3+1)
		if room := 65535 - spec.headers(); len(spec.payload) > room {
			spec.payload = spec.payload[:room]
		}
		h, packet := spec.super()
		if err := s.Begin(spec.mode, h, packet, partial); err != nil {
			t.Fatal(err)
		}
		var arrivals []arrival
		complete := spec.segments(false)
		for k, p := range seal(&s) {
			arrivals = append(arrivals, arrive(p, complete[k], s.Partial()))
		}
		for range 2 {
			c, d := segment.NewChain(spec.mode, buffer), &device{t: t, mode: spec.mode}
			d.feed(c, arrivals)
			d.drain(c)
			comparePackets(t, "joined", d.packets, complete)
			c, d = segment.NewChain(spec.mode, buffer), &device{t: t, mode: spec.mode}
			d.feedMany(c, buffer, arrivals)
			d.drain(c)
			comparePackets(t, "joined, many", d.packets, complete)
			random(t, seed).Shuffle(len(arrivals), func(i, j int) {
				arrivals[i], arrivals[j] = arrivals[j], arrivals[i]
				complete[i], complete[j] = complete[j], complete[i]
			})
		}
	})
}

// FuzzChain gives a Chain packets that the fuzzer cuts out of its data, which begins as
// real packets.
func FuzzChain(f *testing.F) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		mode := segment.Mode(1 + r.IntN(2))
		var data []byte
		for _, a := range randomArrivals(r, mode) {
			if len(a.packet) < 300 && len(data) < 2000 {
				data = append(data, byte(len(a.packet)>>8), byte(len(a.packet)), map[bool]byte{true: 1}[a.flagged]|byte(a.fate)<<1)
				data = append(data, a.packet...)
			}
		}
		f.Add(mode == segment.TAP, data)
	}
	buffer := make([]byte, segment.MinBuffer)
	f.Fuzz(func(t *testing.T, tap bool, data []byte) {
		mode := segment.TUN
		if tap {
			mode = segment.TAP
		}
		var arrivals []arrival
		for len(data) > 3 {
			n := min(int(data[0])<<8|int(data[1]), len(data)-3)
			p := data[3 : 3+n]
			a := arrive(p, p, data[2]&1 != 0)
			a.fate = fate(data[2] >> 1 % 3)
			if a.flagged {
				a.complete = complete(mode, p)
			}
			arrivals = append(arrivals, a)
			data = data[3+n:]
		}
		for _, many := range []bool{false, true} {
			c, d := segment.NewChain(mode, buffer), &device{t: t, mode: mode}
			if many {
				d.feedMany(c, buffer, arrivals)
			} else {
				d.feed(c, arrivals)
			}
			d.drain(c)
			comparePackets(t, "chain", canonical(mode, d.packets), canonical(mode, wanted(arrivals)))
		}
	})
}

// complete is what a flagged packet becomes, or nil.
func complete(mode segment.Mode, packet []byte) []byte {
	p := bytes.Clone(packet)
	h, ok := segment.Accept(mode, p)
	if !ok {
		return nil
	}
	slowComplete(p, h)
	return p
}

// canonical replaces TCP checksums of 0xffff by 0, which mean the same: the kernel makes
// one of a single packet and the other of a segment.
func canonical(mode segment.Mode, packets [][]byte) [][]byte {
	var all [][]byte
	for _, packet := range packets {
		p := bytes.Clone(packet)
		if l, ok := segment.Locate(mode, p); ok && l.Protocol == 6 && p[l.Start+16] == 0xff && p[l.Start+17] == 0xff {
			p[l.Start+16], p[l.Start+17] = 0, 0
		}
		all = append(all, p)
	}
	return all
}
