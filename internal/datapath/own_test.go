package datapath

import (
	"testing"

	"tund/internal/aead"
)

// clearCipher does all that a cipher does but for the cipher.
type clearCipher struct{}

func (clearCipher) NonceSize() int { return aead.NonceSize }
func (clearCipher) Overhead() int  { return aead.TagSize }
func (clearCipher) Wipe()          {}

func (clearCipher) Seal(dst, _, plaintext, _ []byte) []byte {
	return append(append(dst, plaintext...), make([]byte, aead.TagSize)...)
}

func (clearCipher) Open(dst, _, ciphertext, _ []byte) ([]byte, error) {
	return append(dst, ciphertext[:len(ciphertext)-aead.TagSize]...), nil
}

func (clearCipher) SealBatch(b *aead.Batch) {
	for i := range b.Jobs {
		j := &b.Jobs[i]
		copy(b.Plain[j.Plain:], b.Heads[j.Head:][:j.HeadSize])
		copy(b.Sealed[j.Sealed:], b.Plain[j.Plain:][:j.Size])
	}
}

func (clearCipher) OpenBatch(b *aead.Batch) int {
	for i := range b.Jobs {
		j := &b.Jobs[i]
		copy(b.Heads[j.Head:], b.Sealed[j.Sealed:][:j.HeadSize])
		copy(b.Plain[j.Plain+j.HeadSize:], b.Sealed[j.Sealed:][j.HeadSize:j.Size])
		j.OK = true
	}
	return len(b.Jobs)
}

// BenchmarkOwnCode is BenchmarkSuperPacket without a cipher.
func BenchmarkOwnCode(b *testing.B) {
	benchmarkSuperPacket(b, func(e *epoch) { e.send.cipher, e.receive.cipher = clearCipher{}, clearCipher{} })
}
