package datapath

import (
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
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
	o, i, d := newLoops(b, keys.AES256GCM)
	tb := *o.table.Load()
	tb.offloads = allOffloads
	e := tb.send.epoch
	e.partial = true
	e.send.cipher, e.receive.cipher = clearCipher{}, clearCipher{}
	o.table.Store(&tb)
	super := flowOf(4, 6, 80, 0, noise(43*1392), 1392)
	d.packet, d.header, d.keepRun = super.bytes, super.header, true
	b.ReportAllocs()
	b.SetBytes(int64(len(super.bytes)))
	for b.Loop() {
		d.packets, d.received = 1, 1
		if err := o.work(); err != nil {
			b.Fatal(err)
		}
		if err := i.batch(); err != nil {
			b.Fatal(err)
		}
	}
	if d.written != b.N || i.counters.packets.Load() != uint64(43*b.N) {
		b.Errorf("%d written, %d packets", d.written, i.counters.packets.Load())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(43*b.N), "ns/segment")
}
