package keys

import (
	"fmt"
)

// Epoch numbers the data keys of one session, from 1. A new session begins at 1
// again, so an epoch never tells which of two keys is newer: a [KeyID] does.
type Epoch uint32

// Generation counts the IV changes under one data key, from 0.
type Generation uint32

// MaxGeneration is the generation at which a REKEY is due instead of a REIV.
const MaxGeneration Generation = 1 << 16

// KeyID is a node's own, ever-growing number for each key that it installs. A higher
// one is newer. It never leaves the node.
type KeyID uint64

// AEAD names an algorithm that seals data. The zero value is none.
type AEAD uint8

// The AEADs of version 1. The numbers are those of HELLO.
const (
	AES256GCM        AEAD = 1
	ChaCha20Poly1305 AEAD = 2
)

// ParseAEAD returns the AEAD of a name.
func ParseAEAD(name string) (AEAD, error) {
	for _, a := range []AEAD{AES256GCM, ChaCha20Poly1305} {
		if name == a.String() {
			return a, nil
		}
	}
	return 0, fmt.Errorf("parse aead: unknown name %q", name)
}

// Valid says whether a is an AEAD of version 1.
func (a AEAD) Valid() bool { return a == AES256GCM || a == ChaCha20Poly1305 }

// String returns the name that configuration and status use.
func (a AEAD) String() string {
	switch a {
	case AES256GCM:
		return "aes-256-gcm"
	case ChaCha20Poly1305:
		return "chacha20-poly1305"
	default:
		return fmt.Sprintf("aead(%d)", uint8(a))
	}
}

// MarshalText returns the name.
func (a AEAD) MarshalText() ([]byte, error) {
	if !a.Valid() {
		return nil, fmt.Errorf("marshal aead: unknown number %d", uint8(a))
	}
	return []byte(a.String()), nil
}

// UnmarshalText reads a name.
func (a *AEAD) UnmarshalText(text []byte) error {
	parsed, err := ParseAEAD(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}
