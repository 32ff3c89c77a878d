package segment_test

import (
	"bytes"
	"errors"
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
