package segment_test

import (
	"bytes"
	"testing"

	"tund/internal/segment"
)

func TestLocateFindsTheChecksumOfTheseOnly(t *testing.T) {
	tcp := spec{mode: segment.TUN, ttl: 1, flags: ack, size: 10, payload: make([]byte, 10)}
	with := func(s spec, change func(*spec)) spec {
		change(&s)
		return s
	}
	tap := with(tcp, func(s *spec) { s.mode = segment.TAP })
	tcp6 := with(tcp, func(s *spec) { s.v6 = true })
	udp := with(tcp, func(s *spec) { s.udp = true })
	options := with(tcp, func(s *spec) { s.ipOptions = make([]byte, 40) })
	same := func(p []byte) []byte { return p }
	tests := map[string]struct {
		spec   spec
		change func(p []byte) []byte
		want   segment.Location // zero: not found
	}{
		"TCP over IPv4":          {tcp, same, segment.Location{Start: 20, Offset: 16, Protocol: 6}},
		"UDP over IPv4":          {udp, same, segment.Location{Start: 20, Offset: 6, Protocol: 17}},
		"TCP over IPv6":          {tcp6, same, segment.Location{Start: 40, Offset: 16, Protocol: 6}},
		"UDP over IPv6":          {with(udp, func(s *spec) { s.v6 = true }), same, segment.Location{Start: 40, Offset: 6, Protocol: 17}},
		"IPv4 options":           {options, same, segment.Location{Start: 60, Offset: 16, Protocol: 6}},
		"a frame":                {tap, same, segment.Location{Start: 34, Offset: 16, Protocol: 6}},
		"a frame with a tag":     {with(tap, func(s *spec) { s.vlans = 1 }), same, segment.Location{Start: 38, Offset: 16, Protocol: 6}},
		"a frame with two tags":  {with(tap, func(s *spec) { s.vlans = 2 }), same, segment.Location{Start: 42, Offset: 16, Protocol: 6}},
		"unfragmentable":         {with(tcp, func(s *spec) { s.df = true }), same, segment.Location{Start: 20, Offset: 16, Protocol: 6}},
		"with the reserved bit":  {tcp, set(6, 0x80), segment.Location{Start: 20, Offset: 16, Protocol: 6}},
		"wrong checksums":        {tcp, set(10, 0x80), segment.Location{Start: 20, Offset: 16, Protocol: 6}},
		"nothing":                {tcp, cut(1000), segment.Location{}},
		"a first fragment":       {tcp, set(6, 0x20), segment.Location{}},
		"a later fragment":       {tcp, set(7, 1), segment.Location{}},
		"a far fragment":         {tcp, set(6, 0x10), segment.Location{}},
		"another version":        {tcp, set(0, 0x55), segment.Location{}},
		"version 4 with type 6":  {with(tap, func(s *spec) { s.v6 = true }), set(14, 0x45), segment.Location{}},
		"a header of 16 bytes":   {tcp, set(0, 0x44), segment.Location{}},
		"a header beyond it":     {with(tcp, func(s *spec) { s.udp, s.payload = true, nil }), set(0, 0x4f), segment.Location{}},
		"an unknown protocol":    {tcp, set(9, 132), segment.Location{}},
		"an unknown next header": {tcp6, set(6, 132), segment.Location{}},
		"an extension header":    {with(tcp6, func(s *spec) { s.kinds, s.extensions = []byte{60}, make([]byte, 8) }), same, segment.Location{}},
		"a byte too few":         {tcp, cut(1), segment.Location{}},
		"a byte too many":        {tcp, more, segment.Location{}},
		"IPv6, a byte too few":   {tcp6, cut(1), segment.Location{}},
		"IPv6, a byte too many":  {tcp6, more, segment.Location{}},
		"a padded frame":         {tap, more, segment.Location{}},
		"UDP of another length":  {udp, set(25, 17), segment.Location{}},
		"a TCP header of 16":     {tcp, set(32, 0x40), segment.Location{}},
		"a TCP header beyond":    {tcp, set(32, 0xf0), segment.Location{}},
		"a frame with a length":  {tap, set(12, 0), segment.Location{}},
		"a third tag":            {with(tap, func(s *spec) { s.vlans = 2 }), thirdTag, segment.Location{}},
		"a frame cut at its tag": {with(tap, func(s *spec) { s.vlans = 1 }), func(p []byte) []byte { return p[:15] }, segment.Location{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := tt.spec
			p := tt.change(s.packet(s.payload, 1, 1, ack, false))
			got, ok := segment.Locate(s.mode, p)
			if got != tt.want || ok != (tt.want != segment.Location{}) {
				t.Errorf("Locate = %+v, %v, want %+v", got, ok, tt.want)
			}
			if _, ok := segment.Locate(0, p); ok {
				t.Error("found without mode")
			}
			before := bytes.Clone(p)
			if _, accepted := segment.Accept(s.mode, p); accepted != ok {
				t.Errorf("Accept is %v", accepted)
			} else if !ok && !bytes.Equal(p, before) {
				t.Error("Accept wrote to what it refused")
			}
		})
	}
}

func set(at int, to byte) func([]byte) []byte {
	return func(p []byte) []byte {
		p[at] = to
		return p
	}
}

func cut(n int) func([]byte) []byte {
	return func(p []byte) []byte { return p[:max(0, len(p)-n)] }
}

func more(p []byte) []byte { return append(p, 0) }

func thirdTag(p []byte) []byte {
	return append(append(bytes.Clone(p[:12]), 0x81, 0, 0, 1), p[12:]...)
}

func TestAcceptWritesThePseudoHeaderSumWhateverTheSenderWrote(t *testing.T) {
	for seed := range uint64(500) {
		s := randomSpec(random(t, seed))
		if !s.locatable() {
			continue
		}
		s.payload = s.payload[:min(len(s.payload), 1000)]
		want := s.packet(s.payload, s.id, s.seq, s.flags, true)
		for name, partial := range map[string]bool{"same": true, "other": false} {
			p := s.packet(s.payload, s.id, s.seq, s.flags, partial)
			h, ok := segment.Accept(s.mode, p)
			if !ok || h.Flags != segment.NeedsCsum || h.Type != segment.GSONone || h.Size != 0 {
				t.Fatalf("%s: %+v, %v", name, h, ok)
			}
			comparePackets(t, name, [][]byte{p}, [][]byte{want})
		}
	}
}

func FuzzLocate(f *testing.F) {
	for seed := range uint64(30) {
		s := randomSpec(random(f, seed))
		f.Add(s.mode == segment.TAP, s.packet(s.payload[:min(20, len(s.payload))], 1, 1, ack, false))
	}
	f.Fuzz(func(t *testing.T, tap bool, p []byte) {
		mode := segment.TUN
		if tap {
			mode = segment.TAP
		}
		l, ok := segment.Locate(mode, p)
		if ok && (l.Start < 20 || l.Start+l.Offset+2 > len(p) || l.Protocol != 6 && l.Protocol != 17) {
			t.Errorf("Locate = %+v in %d bytes", l, len(p))
		}
		before := bytes.Clone(p)
		if _, accepted := segment.Accept(mode, p); accepted != ok {
			t.Errorf("Accept is %v, Locate %v", accepted, ok)
		}
		if ok {
			copy(before[l.Start+l.Offset:], p[l.Start+l.Offset:][:2])
		}
		if !bytes.Equal(p, before) {
			t.Error("Accept changed more than a checksum")
		}
	})
}
