package keys

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
)

// The labels of the key schedule. Expand's info is the label, a zero byte, and what
// belongs to it; no label is the beginning of another.
const (
	labelChain   = "tund v1 chain"
	labelData    = "tund v1 data"
	labelConfirm = "tund v1 confirm"
	labelPrelude = "tund v1 prelude"
)

// Errors of [Derive]. All of them are mistakes of the caller.
var (
	ErrShare     = errors.New("shared secret not 32 bytes")
	ErrSecretNil = errors.New("secret all zero")
	ErrOneKey    = errors.New("both public keys equal")
)

// Transcript is what both nodes have sent before an epoch's keys exist: the bodies of
// the messages exactly as they were on the wire, without their length prefixes.
type Transcript struct {
	// HelloDialler and HelloListener are the HELLOs of the node that dialled the
	// session and of the one that listened, whoever began the REKEY.
	HelloDialler, HelloListener []byte
	// Rekey is the whole REKEY message.
	Rekey []byte
	// ReplyBody is the body inside REKEY_REPLY, without the tag.
	ReplyBody []byte
}

// Hash returns the transcript hash: SHA-256 over the four parts, each behind its
// length in four bytes.
func (t Transcript) Hash() [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{t.HelloDialler, t.HelloListener, t.Rekey, t.ReplyBody} {
		writePart(h, part)
	}
	return [32]byte(h.Sum(nil))
}

func writePart(h hash.Hash, part []byte) {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(part)))
	h.Write(length[:])
	h.Write(part)
}

// Input is all that a derivation depends on. The caller wipes what it holds.
type Input struct {
	// Chain is the chain key of the epoch before; of epoch 1, the TLS exporter.
	Chain Secret
	// X25519 and MLKEM are the shared secrets, 32 bytes each.
	X25519, MLKEM []byte
	// PSK is the pre-shared key, or nil for none.
	PSK *Secret
	// Dialler and Listener are the public keys of the session's two nodes.
	Dialler, Listener PublicKey
	// TH is the transcript hash.
	TH [32]byte
}

// Format writes "[secret]" for every verb.
func (Input) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// LogValue returns "[secret]".
func (Input) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[secret]".
func (Input) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Material is what a derivation gives. It is the same on both nodes.
type Material struct {
	// Chain takes the place of the chain key before it, but only when the peer has
	// confirmed the epoch.
	Chain   Secret
	senders [2]senderMaterial
}

// senderMaterial is what belongs to one direction.
type senderMaterial struct {
	sender PublicKey
	data   DataKey
	tag    [32]byte
}

// Derive runs the key schedule for one epoch.
func Derive(in *Input) (*Material, error) {
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	prk, err := in.extract()
	if err != nil {
		return nil, fmt.Errorf("derive keys: extract: %w", err)
	}
	defer wipe(prk)
	m := &Material{}
	if err := m.expand(prk, in); err != nil {
		m.Wipe()
		return nil, fmt.Errorf("derive keys: expand: %w", err)
	}
	return m, nil
}

func (in *Input) check() error {
	switch {
	case len(in.X25519) != 32 || len(in.MLKEM) != 32:
		return ErrShare
	case in.Chain.IsZero() || in.PSK != nil && in.PSK.IsZero():
		return ErrSecretNil
	case in.Dialler == in.Listener:
		return ErrOneKey
	}
	return nil
}

// extract mixes the three secrets into the chain. Without a pre-shared key 32 zero
// bytes stand in its place, so that the length is always 96.
func (in *Input) extract() ([]byte, error) {
	var ikm [96]byte
	defer wipe(ikm[:])
	copy(ikm[:32], in.X25519)
	copy(ikm[32:64], in.MLKEM)
	if in.PSK != nil {
		copy(ikm[64:], in.PSK[:])
	}
	return hkdf.Extract(sha256.New, ikm[:], in.Chain[:])
}

func (m *Material) expand(prk []byte, in *Input) error {
	ctx := make([]byte, 0, 96)
	ctx = append(ctx, in.Dialler[:]...)
	ctx = append(ctx, in.Listener[:]...)
	ctx = append(ctx, in.TH[:]...)
	if err := expandInto(m.Chain[:], prk, labelChain, ctx); err != nil {
		return err
	}
	for i, sender := range []PublicKey{in.Dialler, in.Listener} {
		info := append(sender[:], ctx...)
		if err := m.senders[i].expand(prk, sender, info, in.TH); err != nil {
			return err
		}
	}
	return nil
}

func (s *senderMaterial) expand(prk []byte, sender PublicKey, info []byte, th [32]byte) error {
	var data [44]byte
	var confirm [32]byte
	defer wipe(data[:])
	defer wipe(confirm[:])
	if err := expandInto(data[:], prk, labelData, info); err != nil {
		return err
	}
	if err := expandInto(confirm[:], prk, labelConfirm, info); err != nil {
		return err
	}
	s.sender = sender
	copy(s.data.Key[:], data[:32])
	copy(s.data.IV[:], data[32:])
	mac := hmac.New(sha256.New, confirm[:])
	mac.Write(th[:])
	mac.Sum(s.tag[:0])
	return nil
}

// expandInto fills out with Expand(prk, label || 0 || info).
func expandInto(out, prk []byte, label string, info []byte) error {
	okm, err := hkdf.Expand(sha256.New, prk, label+"\x00"+string(info), len(out))
	if err != nil {
		return err
	}
	copy(out, okm)
	wipe(okm)
	return nil
}

// Data returns the key with which sender seals. The sender must be one of the two
// nodes of the [Input].
func (m *Material) Data(sender PublicKey) DataKey { return m.of(sender).data }

// Tag returns the tag with which sender proves that it derived the same keys. Compare
// it with crypto/hmac.Equal. The sender must be one of the two nodes of the [Input].
func (m *Material) Tag(sender PublicKey) [32]byte { return m.of(sender).tag }

func (m *Material) of(sender PublicKey) *senderMaterial {
	for i := range m.senders {
		if m.senders[i].sender == sender {
			return &m.senders[i]
		}
	}
	panic("keys: internal error: sender is neither of the two nodes")
}

// Wipe overwrites all secrets with zeros. The material must not be used afterwards.
func (m *Material) Wipe() {
	m.Chain.Wipe()
	for i := range m.senders {
		m.senders[i].data.Wipe()
		wipe(m.senders[i].tag[:])
	}
}

// Format writes "[secret]" for every verb.
func (Material) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// LogValue returns "[secret]".
func (Material) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[secret]".
func (Material) MarshalText() ([]byte, error) { return []byte(redacted), nil }
