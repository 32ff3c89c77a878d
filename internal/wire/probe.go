package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ProbeSize is the length of a [Probe] without padding.
const ProbeSize = 40

// Errors of [ParseProbe].
var (
	ErrProbeShort   = errors.New("wire: probe too short")
	ErrProbeKind    = errors.New("wire: unknown kind of probe")
	ErrProbePadding = errors.New("wire: probe padding not zero")
)

// ProbeKind says whether a probe asks or answers. The zero value is not a kind.
type ProbeKind uint8

// The kinds of probe.
const (
	// ProbeRequest asks the peer for a ProbeAnswer.
	ProbeRequest ProbeKind = 1
	// ProbeAnswer returns the ID and the Stamp of a request unchanged.
	ProbeAnswer ProbeKind = 2
)

// String returns "request" or "answer".
func (k ProbeKind) String() string {
	switch k {
	case ProbeRequest:
		return "request"
	case ProbeAnswer:
		return "answer"
	default:
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
}

// Probe is the plaintext of a PROBE datagram.
//
//	0      1                8          16         24           32          40
//	+------+----------------+----------+----------+------------+-----------+-----------+
//	| kind | zero (7)       | id       | stamp    | received   | missing   | zeros …   |
//	+------+----------------+----------+----------+------------+-----------+-----------+
//
// An answer is no longer than its request. Together the totals of both sides show the
// loss of each direction: what a node sent since the last look, less what the other
// node received since then.
type Probe struct {
	Kind ProbeKind
	// ID names the request; its answer carries the same one.
	ID uint64
	// Stamp is the requester's own clock in nanoseconds, and means nothing to
	// anybody else. The answer carries it back unchanged.
	Stamp uint64
	// Received and Missing are totals of who sends this probe, since its child
	// began: different authentic datagrams received, and packet numbers skipped.
	Received, Missing uint64
}

// Append appends p to dst, padded with zeros to size bytes (but never cut: below
// [ProbeSize] there is no padding), and returns the longer slice.
func (p Probe) Append(dst []byte, size int) []byte {
	dst = append(dst, byte(p.Kind), 0, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, p.ID)
	dst = binary.BigEndian.AppendUint64(dst, p.Stamp)
	dst = binary.BigEndian.AppendUint64(dst, p.Received)
	dst = binary.BigEndian.AppendUint64(dst, p.Missing)
	for padding := size - ProbeSize; padding > 0; {
		n := min(padding, len(zeros))
		dst = append(dst, zeros[:n]...)
		padding -= n
	}
	return dst
}

// zeros is padding to copy from; nothing writes to it.
var zeros [256]byte

// ParseProbe reads the plaintext of a PROBE. It refuses an unknown kind and any byte
// that must be zero and is not. It keeps no part of plaintext.
func ParseProbe(plaintext []byte) (Probe, error) {
	if len(plaintext) < ProbeSize {
		return Probe{}, ErrProbeShort
	}
	p := Probe{
		Kind:     ProbeKind(plaintext[0]),
		ID:       binary.BigEndian.Uint64(plaintext[8:]),
		Stamp:    binary.BigEndian.Uint64(plaintext[16:]),
		Received: binary.BigEndian.Uint64(plaintext[24:]),
		Missing:  binary.BigEndian.Uint64(plaintext[32:]),
	}
	if p.Kind != ProbeRequest && p.Kind != ProbeAnswer {
		return Probe{}, ErrProbeKind
	}
	if !allZero(plaintext[1:8]) || !allZero(plaintext[ProbeSize:]) {
		return Probe{}, ErrProbePadding
	}
	return p, nil
}

func allZero(p []byte) bool {
	var all byte
	for _, b := range p {
		all |= b
	}
	return all == 0
}
