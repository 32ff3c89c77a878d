package keys

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"

	"tund/internal/wire"
)

// DataKey is what seals the datagrams of one sender in one epoch: a key, and the base
// IV from which every nonce comes. Printing it shows nothing of either.
type DataKey struct {
	Key Secret
	IV  [12]byte
}

// Wipe overwrites key and IV with zeros.
func (d *DataKey) Wipe() {
	d.Key.Wipe()
	wipe(d.IV[:])
}

// Format writes "[secret]" for every verb.
func (DataKey) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// LogValue returns "[secret]".
func (DataKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[secret]".
func (DataKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary returns [ErrSecret], so that no reflecting encoder takes the bytes.
func (DataKey) MarshalBinary() ([]byte, error) { return nil, ErrSecret }

// GenerationIV returns the IV of one generation: the base IV with g, as 32 bits
// big-endian, XORed into its first four bytes. Generation 0 is the base IV itself.
func GenerationIV(iv [12]byte, g Generation) [12]byte {
	binary.BigEndian.PutUint32(iv[:4], binary.BigEndian.Uint32(iv[:4])^uint32(g))
	return iv
}

// Nonce returns the nonce of one datagram: the IV of its generation with the packet
// number, as 64 bits big-endian, XORed into its last eight bytes. Two different pairs
// of generation and number never give the same nonce under one base IV.
func Nonce(iv [12]byte, g Generation, n wire.PacketNumber) (nonce [12]byte) {
	PutNonce(&nonce, &iv, g, n)
	return nonce
}

// PutNonce is [Nonce] written where it is wanted: a packet loop makes one for every datagram.
func PutNonce(nonce, iv *[12]byte, g Generation, n wire.PacketNumber) {
	binary.BigEndian.PutUint32(nonce[:4], binary.BigEndian.Uint32(iv[:4])^uint32(g))
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(iv[4:])^uint64(n))
}
