package keys

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
)

// redacted is all that printing shows of a secret.
const redacted = "[secret]"

// encodedSize is the length of 32 bytes in base64 with padding.
const encodedSize = 44

// Errors of [ParseSecret] and [ParsePublicKey]. They never hold a part of the text.
var (
	ErrKeyText = errors.New("not 32 bytes in base64")
	ErrKeyZero = errors.New("all zero")
	ErrKeyBOM  = errors.New("begins with a byte order mark (BOM), not with the key: save it without")
	ErrKeyWide = errors.New("is UTF-16: save it as ASCII or UTF-8")
)

// ErrSecret is what encoding a secret to binary (gob, CBOR) returns.
var ErrSecret = errors.New("keys: a secret is not encoded")

// Secret is 32 secret bytes: a private key's seed, a pre-shared key, a chain or data
// key. Every way of printing it gives "[secret]"; only [Secret.Encode] shows it. The
// zero value means that there is no secret.
//
// Package fmt cannot call the methods of what an unexported struct field holds, and
// would print its bytes. So a struct with a Secret in an unexported field, however
// deep, must have a Format method of its own; a pointer is not enough, as some verbs
// follow it. Compare with [Secret.Equal]; == does not take constant time.
type Secret [32]byte

// GenerateSecret returns 32 random bytes.
func GenerateSecret() Secret {
	var s Secret
	_, _ = rand.Read(s[:]) // never fails: crypto/rand ends the program instead
	return s
}

// ParseSecret reads what [Secret.Encode] wrote: 32 bytes in standard base64, space
// around it allowed. It refuses 32 zero bytes. The caller wipes text.
func ParseSecret(text []byte) (Secret, error) {
	var s Secret
	if err := decodeKey((*[32]byte)(&s), bytes.TrimSpace(text)); err != nil {
		s.Wipe()
		return Secret{}, fmt.Errorf("parse secret: %w", err)
	}
	return s, nil
}

// Encode returns the secret in base64 with a newline, as a key file holds it. It is
// the only way out for a secret's bytes as text; the caller wipes the result.
func (s *Secret) Encode() []byte {
	text := make([]byte, encodedSize+1)
	base64.StdEncoding.Encode(text, s[:])
	text[encodedSize] = '\n'
	return text
}

// IsZero says in constant time whether all bytes are zero.
func (s *Secret) IsZero() bool { return s.Equal(&Secret{}) }

// Equal compares in constant time.
func (s *Secret) Equal(other *Secret) bool {
	return subtle.ConstantTimeCompare(s[:], other[:]) == 1
}

// Wipe overwrites the secret with zeros.
func (s *Secret) Wipe() { wipe(s[:]) }

// String returns "[secret]".
func (Secret) String() string { return redacted }

// GoString returns "[secret]".
func (Secret) GoString() string { return redacted }

// Format writes "[secret]" for every verb.
func (Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// LogValue returns "[secret]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[secret]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[secret]" in quotes.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalBinary returns [ErrSecret], so that no reflecting encoder takes the bytes.
func (Secret) MarshalBinary() ([]byte, error) { return nil, ErrSecret }

// decodeKey decodes exactly 44 characters of base64 into key. It wipes its copy.
func decodeKey(key *[32]byte, text []byte) error {
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return ErrKeyBOM
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")), bytes.IndexByte(text, 0) >= 0:
		return ErrKeyWide
	case len(text) != encodedSize:
		return ErrKeyText
	}
	var buffer [33]byte // DecodedLen(44); the last byte is the padding's room
	defer wipe(buffer[:])
	n, err := base64.StdEncoding.Strict().Decode(buffer[:], text)
	if err != nil || n != len(key) {
		return ErrKeyText
	}
	if subtle.ConstantTimeCompare(buffer[:32], make([]byte, 32)) == 1 {
		return ErrKeyZero
	}
	copy(key[:], buffer[:32])
	return nil
}

// wipe overwrites p and keeps the stores from being dropped as dead.
//
//go:noinline
func wipe(p []byte) {
	clear(p)
	runtime.KeepAlive(p)
}
