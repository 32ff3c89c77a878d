package segment_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"tund/internal/segment"
)

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
				accepted, ok := segment.Accept(mode, p)
				if !ok {
					t.Fatalf("partial, but not accepted: %x", head(p))
				}
				accepted.Type = h.Type // of two equal sums the one for segments, also where there is one
				slowComplete(p, accepted)
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
			comparePackets(t, "joined", canonical(spec.mode, d.packets), canonical(spec.mode, complete))
			c, d = segment.NewChain(spec.mode, buffer), &device{t: t, mode: spec.mode}
			d.feedMany(c, buffer, arrivals)
			d.drain(c)
			comparePackets(t, "joined, many", canonical(spec.mode, d.packets), canonical(spec.mode, complete))
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
