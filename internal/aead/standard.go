package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"tund/internal/keys"
)

// goEngine is Go's standard library and golang.org/x/crypto.
type goEngine struct{}

func (goEngine) Name() string   { return ChooseGo }
func (goEngine) Detail() string { return "standard library" }

func (goEngine) New(a keys.AEAD, key *keys.Secret) (Cipher, error) {
	c, err := newStandard(a, key[:])
	if err != nil {
		return nil, fmt.Errorf("aead %s: %w", a, err)
	}
	return goCipher{c}, nil
}

func newStandard(a keys.AEAD, key []byte) (cipher.AEAD, error) {
	switch a {
	case keys.AES256GCM:
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	case keys.ChaCha20Poly1305:
		return chacha20poly1305.New(key)
	default:
		return nil, errors.New("unknown")
	}
}

// goCipher adds batches to a cipher. They save no calls, but work as documented.
type goCipher struct{ cipher.AEAD }

func (c goCipher) SealBatch(b *Batch) {
	b.check()
	for i := range b.Jobs {
		j := &b.Jobs[i]
		payload := b.Plain[j.Plain:][:j.Size]
		copy(payload, b.Heads[j.Head:][:j.HeadSize])
		c.Seal(b.Sealed[j.Sealed:j.Sealed], j.Nonce[:], payload, b.Sealed[j.Sealed-ADSize:j.Sealed])
	}
}

func (c goCipher) OpenBatch(b *Batch) int {
	b.check()
	opened := 0
	for i := range b.Jobs {
		j := &b.Jobs[i]
		if c.openOne(b, j); j.OK {
			opened++
		}
	}
	return opened
}

func (c goCipher) openOne(b *Batch, j *Job) {
	payload := b.Plain[j.Plain:][:j.Size:j.Size]
	var covered [MaxHead]byte
	copy(covered[:j.HeadSize], payload)

	_, err := c.Open(payload[:0], j.Nonce[:], b.Sealed[j.Sealed:][:j.Size+TagSize], b.Sealed[j.Sealed-ADSize:j.Sealed])
	j.OK = err == nil
	if !j.OK {
		clear(payload) // so does the standard library, without a promise
	}
	copy(b.Heads[j.Head:][:j.HeadSize], payload)
	copy(payload, covered[:j.HeadSize])
}

func (goCipher) Wipe() {}
