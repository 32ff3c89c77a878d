package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tund/internal/wire"
)

// body is the shortest rest of a datagram: an empty ciphertext's tag.
var body = strings.Repeat("ee", wire.TagSize)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	p, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHeaderHasTheseBytes(t *testing.T) {
	tests := map[string]struct {
		header wire.Header
		bytes  string
	}{
		"data":          {wire.Header{Type: wire.TypeData, Index: 0x010203, Number: 4}, "100102030000000000000004"},
		"probe":         {wire.Header{Type: wire.TypeProbe, Index: 0xabcdef, Number: 0x0102030405060708}, "20abcdef0102030405060708"},
		"least values":  {wire.Header{Type: wire.TypeData, Index: 1}, "100000010000000000000000"},
		"partial sum":   {wire.Header{Type: wire.TypeData, Flags: wire.FlagPartialChecksum, Index: 5, Number: 6}, "110000050000000000000006"},
		"highest index": {wire.Header{Type: wire.TypeData, Index: wire.MaxIndex, Number: 1<<64 - 1}, "10ffffffffffffffffffffff"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := hex.EncodeToString(tt.header.Append(nil)); got != tt.bytes {
				t.Errorf("Append = %s, want %s", got, tt.bytes)
			}
			got, err := wire.ParseHeader(unhex(t, tt.bytes+body))
			if err != nil || got != tt.header {
				t.Errorf("ParseHeader = %+v, %v, want %+v", got, err, tt.header)
			}
		})
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	tests := map[string]struct {
		datagram string
		want     error
	}{
		"nothing":                  {"", wire.ErrShort},
		"a header alone":           {"100000010000000000000000", wire.ErrShort},
		"one byte less than a tag": {"100000010000000000000000" + body[2:], wire.ErrShort},
		"type zero":                {"000000010000000000000000" + body, wire.ErrType},
		"type three":               {"300000010000000000000000" + body, wire.ErrType},
		"type fifteen":             {"f00000010000000000000000" + body, wire.ErrType},
		"the second flag":          {"120000010000000000000000" + body, wire.ErrReserved},
		"two flags":                {"130000010000000000000000" + body, wire.ErrReserved},
		"the highest flag":         {"180000010000000000000000" + body, wire.ErrReserved},
		"a flag on a probe":        {"210000010000000000000000" + body, wire.ErrReserved},
		"index zero":               {"100000000000000000000000" + body, wire.ErrIndex},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := wire.ParseHeader(unhex(t, tt.datagram)); !errors.Is(err, tt.want) {
				t.Errorf("ParseHeader error = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestAppendPanicsOnAHeaderThatHasNoBytes(t *testing.T) {
	tests := map[string]wire.Header{
		"type":  {Type: 16, Index: 1},
		"flags": {Type: 1, Flags: 2, Index: 1},
		"probe": {Type: 2, Flags: wire.FlagPartialChecksum, Index: 1},
		"index": {Type: 1, Index: wire.MaxIndex + 1},
	}
	for name, h := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			h.Append(nil)
		})
	}
}

func TestNamesOfTypesAndKinds(t *testing.T) {
	tests := []struct {
		value fmt.Stringer
		want  string
	}{
		{wire.TypeData, "DATA"},
		{wire.TypeProbe, "PROBE"},
		{wire.Type(3), "type(3)"},
		{wire.ProbeRequest, "request"},
		{wire.ProbeAnswer, "answer"},
		{wire.ProbeKind(0), "kind(0)"},
	}
	for _, tt := range tests {
		if got := tt.value.String(); got != tt.want {
			t.Errorf("String() = %q, want %q", got, tt.want)
		}
	}
}

func TestHeaderDoesNotAllocate(t *testing.T) {
	buffer := make([]byte, 0, wire.Overhead)
	h := wire.Header{Type: wire.TypeData, Index: 7}
	allocs := testing.AllocsPerRun(1000, func() {
		h.Number++
		datagram := h.Append(buffer)[:wire.Overhead]
		if got, err := wire.ParseHeader(datagram); err != nil || got != h {
			t.Fatal("parsed another header")
		}
		if _, err := wire.ParseHeader(datagram[1:]); err == nil {
			t.Fatal("parsed too little")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(unhex(f, "100102030000000000000004"+body))
	f.Add(unhex(f, "20abcdef0102030405060708"+body+"00"))
	f.Add(unhex(f, "110102030000000000000004"+body))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		h, err := wire.ParseHeader(datagram)
		if err != nil {
			if h != (wire.Header{}) {
				t.Errorf("an error and %+v", h)
			}
			return
		}
		if got := h.Append(nil); !bytes.Equal(got, datagram[:wire.HeaderSize]) {
			t.Errorf("Append = %x, parsed from %x", got, datagram[:wire.HeaderSize])
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	b.ReportAllocs()
	buffer := make([]byte, 0, wire.Overhead)
	h := wire.Header{Type: wire.TypeData, Index: 7}
	for b.Loop() {
		h.Number++
		if _, err := wire.ParseHeader(h.Append(buffer)[:wire.Overhead]); err != nil {
			b.Fatal(err)
		}
	}
}
