// Package wire is the data datagram: its header, its PROBE, and nothing else.
//
// It turns values into bytes and bytes into values. It does not encrypt, does not
// know which keys are live, and does no I/O; both the child (every datagram) and the
// parent may use it. No other package knows an offset of the datagram.
//
//	0        1                 4                                    12
//	+--------+-----------------+------------------------------------+--------------+----------+
//	|type|flg|  index (24 bit) |       packet number (64)           | ciphertext … | tag (16) |
//	+--------+-----------------+------------------------------------+--------------+----------+
//
// All numbers are big-endian. The twelve bytes of the header are the associated data
// of the AEAD, so a changed header is a datagram that does not open. Nothing here
// allocates on the way of a packet; all errors are fixed values.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes of the parts of a datagram in bytes.
const (
	// HeaderSize is the length of the header, which is also the associated data.
	HeaderSize = 12
	// TagSize is the length of the AEAD's tag; it is the same for both AEADs.
	TagSize = 16
	// Overhead is what a datagram has more than the payload in it.
	Overhead = HeaderSize + TagSize
)

// Errors of [ParseHeader]. They are values without detail because a stranger can
// cause them at any rate: the caller counts them and does not print them.
var (
	ErrShort    = errors.New("wire: datagram shorter than its overhead")
	ErrType     = errors.New("wire: unknown datagram type")
	ErrReserved = errors.New("wire: reserved bit set")
	ErrIndex    = errors.New("wire: index zero")
)

// Type says what the plaintext of a datagram is. The zero value is not a type.
type Type uint8

// The types of datagram of version 1.
const (
	// TypeData carries one IP packet (tun) or one Ethernet frame (tap).
	TypeData Type = 1
	// TypeProbe carries a [Probe].
	TypeProbe Type = 2
)

// String returns the name that the protocol's text uses.
func (t Type) String() string {
	switch t {
	case TypeData:
		return "DATA"
	case TypeProbe:
		return "PROBE"
	default:
		return fmt.Sprintf("type(%d)", uint8(t))
	}
}

// Flags are the low four bits of the first byte. All but those named here are reserved
// and must be zero.
type Flags uint8

// FlagPartialChecksum says of a DATA datagram that the transport checksum of its packet is
// partial: it is the sum of the pseudo-header alone. Only peers that have agreed on it
// use it.
const FlagPartialChecksum Flags = 1

// reserved returns the flags that a datagram of this type must not have.
func (t Type) reserved() Flags {
	if t == TypeData {
		return 15 &^ FlagPartialChecksum
	}
	return 15
}

// Index is the 24-bit locator that the receiver chose for one of its receive keys.
// Zero is not an index. It is no secret and proves nothing.
type Index uint32

// MaxIndex is the greatest [Index].
const MaxIndex Index = 1<<24 - 1

// PacketNumber counts the datagrams sealed with one send key, from zero. It is a
// type of its own because mixing it with another count repeats a nonce.
type PacketNumber uint64

// Header is the parsed header of one datagram.
type Header struct {
	Type   Type
	Flags  Flags
	Index  Index
	Number PacketNumber
}

// Append appends the twelve bytes of h to dst and returns the longer slice. The
// fields must be valid: a type below 16, flags of that type, an index from 1 to [MaxIndex].
// It panics otherwise, since such a header can come only from a mistake in this
// program.
func (h Header) Append(dst []byte) []byte {
	if h.Type > 15 || h.Flags&h.Type.reserved() != 0 || h.Index > MaxIndex {
		panic("wire: internal error: header field out of range")
	}
	first := uint32(h.Type)<<28 | uint32(h.Flags)<<24 | uint32(h.Index)
	dst = binary.BigEndian.AppendUint32(dst, first)
	return binary.BigEndian.AppendUint64(dst, uint64(h.Number))
}

// ParseHeader reads the header of a whole datagram. It refuses what is too short to
// hold a header and a tag, an unknown type, a reserved bit and index zero. It keeps
// no part of datagram. The ciphertext begins at [HeaderSize].
func ParseHeader(datagram []byte) (Header, error) {
	if len(datagram) < Overhead {
		return Header{}, ErrShort
	}
	first := binary.BigEndian.Uint32(datagram)
	h := Header{
		Type:   Type(first >> 28),
		Flags:  Flags(first >> 24 & 15),
		Index:  Index(first & uint32(MaxIndex)),
		Number: PacketNumber(binary.BigEndian.Uint64(datagram[4:])),
	}
	switch {
	case h.Type != TypeData && h.Type != TypeProbe:
		return Header{}, ErrType
	case h.Flags&h.Type.reserved() != 0:
		return Header{}, ErrReserved
	case h.Index == 0:
		return Header{}, ErrIndex
	}
	return h, nil
}
