package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
)

// PublicKey is the Ed25519 public key of a node: its name on the wire. The zero value
// is no key. It can be compared with == and used as a map key.
type PublicKey [32]byte

// ParsePublicKey reads 32 bytes in standard base64. It refuses 32 zero bytes.
func ParsePublicKey(text string) (PublicKey, error) {
	var k PublicKey
	if err := k.UnmarshalText([]byte(text)); err != nil {
		return PublicKey{}, err
	}
	return k, nil
}

// String returns the key in standard base64.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText returns the key in standard base64.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote; an error leaves k as it was.
func (k *PublicKey) UnmarshalText(text []byte) error {
	if err := decodeKey((*[32]byte)(k), text); err != nil {
		return fmt.Errorf("parse public key: %w", err)
	}
	return nil
}

// IsZero says whether k is the zero value.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// Compare orders keys as unsigned big-endian numbers: -1 if k is the smaller one.
func (k PublicKey) Compare(other PublicKey) int { return bytes.Compare(k[:], other[:]) }

// Identity is a node's own Ed25519 key pair. It is immutable and safe for concurrent
// use.
type Identity struct {
	private ed25519.PrivateKey
	public  PublicKey
}

// NewIdentity makes the key pair of seed (RFC 8032). The caller may wipe its seed.
func NewIdentity(seed *Secret) *Identity {
	private := ed25519.NewKeyFromSeed(seed[:])
	return &Identity{private: private, public: PublicKey(private[ed25519.SeedSize:])}
}

// Public returns the public key.
func (i *Identity) Public() PublicKey { return i.public }

// Signer returns the private key for crypto/tls. What it returns must not be printed.
func (i *Identity) Signer() crypto.Signer { return i.private }

// Format writes the public key for every verb, never the private one.
func (i Identity) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, "identity "+i.public.String())
}
