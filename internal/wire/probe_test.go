package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"tund/internal/wire"
)

const (
	requestBytes = "0100000000000000" + "0102030405060708" + "1112131415161718" + "0000000000000065" + "0000000000000002"
	answerBytes  = "0200000000000000" + "ffffffffffffffff" + "0000000000000000" + "0000000000000000" + "0000000000000000"
)

func TestProbeHasTheseBytes(t *testing.T) {
	request := wire.Probe{
		Kind: wire.ProbeRequest, ID: 0x0102030405060708, Stamp: 0x1112131415161718,
		Received: 101, Missing: 2,
	}
	tests := map[string]struct {
		probe wire.Probe
		size  int
		bytes string
	}{
		"request":               {request, wire.ProbeSize, requestBytes},
		"answer":                {wire.Probe{Kind: wire.ProbeAnswer, ID: 1<<64 - 1}, wire.ProbeSize, answerBytes},
		"size zero":             {request, 0, requestBytes},
		"one byte of padding":   {request, wire.ProbeSize + 1, requestBytes + "00"},
		"padding of a big path": {request, 9000, requestBytes + strings.Repeat("00", 9000-wire.ProbeSize)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := hex.EncodeToString(tt.probe.Append(nil, tt.size)); got != tt.bytes {
				t.Errorf("Append = %s, want %s", got, tt.bytes)
			}
			got, err := wire.ParseProbe(unhex(t, tt.bytes))
			if err != nil || got != tt.probe {
				t.Errorf("ParseProbe = %+v, %v, want %+v", got, err, tt.probe)
			}
		})
	}
}

func TestParseProbeRefuses(t *testing.T) {
	tests := map[string]struct {
		plaintext string
		want      error
	}{
		"nothing":             {"", wire.ErrProbeShort},
		"one byte too little": {requestBytes[:len(requestBytes)-2], wire.ErrProbeShort},
		"kind zero":           {"00" + requestBytes[2:], wire.ErrProbeKind},
		"kind three":          {"03" + requestBytes[2:], wire.ErrProbeKind},
		"first reserved byte": {"0101" + requestBytes[4:], wire.ErrProbePadding},
		"last reserved byte":  {requestBytes[:14] + "80" + requestBytes[16:], wire.ErrProbePadding},
		"padding not zero":    {requestBytes + "0001", wire.ErrProbePadding},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := wire.ParseProbe(unhex(t, tt.plaintext)); !errors.Is(err, tt.want) {
				t.Errorf("ParseProbe error = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestProbeDoesNotAllocate(t *testing.T) {
	buffer := make([]byte, 0, 1500)
	p := wire.Probe{Kind: wire.ProbeAnswer, ID: 7}
	allocs := testing.AllocsPerRun(1000, func() {
		p.Stamp++
		if got, err := wire.ParseProbe(p.Append(buffer, 1400)); err != nil || got != p {
			t.Fatal("parsed another probe")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

func FuzzParseProbe(f *testing.F) {
	f.Add(unhex(f, requestBytes))
	f.Add(unhex(f, answerBytes+"000000"))
	f.Add(unhex(f, requestBytes+"01"))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		p, err := wire.ParseProbe(plaintext)
		if err != nil {
			if p != (wire.Probe{}) {
				t.Errorf("an error and %+v", p)
			}
			return
		}
		if got := p.Append(nil, len(plaintext)); !bytes.Equal(got, plaintext) {
			t.Errorf("Append = %x, parsed from %x", got, plaintext)
		}
	})
}

func BenchmarkProbe(b *testing.B) {
	b.ReportAllocs()
	buffer := make([]byte, 0, 64)
	p := wire.Probe{Kind: wire.ProbeRequest, ID: 7}
	for b.Loop() {
		p.Stamp++
		if _, err := wire.ParseProbe(p.Append(buffer, wire.ProbeSize)); err != nil {
			b.Fatal(err)
		}
	}
}
