package aead_test

import (
	"fmt"
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
)

// eachBench runs a benchmark for both AEADs of both engines. Those of ipsec-mb for
// ChaCha20-Poly1305 would be those of the Go engine.
func eachBench(b *testing.B, bench func(b *testing.B, c aead.Cipher, size int)) {
	for _, size := range []int{64, 1400, 9000} {
		for _, name := range []string{aead.ChooseGo, aead.ChooseIPsecMB} {
			for _, a := range all {
				if name == aead.ChooseIPsecMB && a != keys.AES256GCM {
					continue
				}
				b.Run(fmt.Sprintf("%d/%s/%s", size, name, a), func(b *testing.B) {
					b.ReportAllocs()
					bench(b, newCipher(b, open(b, name), a, keys.Secret{1}), size)
				})
			}
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	eachBench(b, func(b *testing.B, c aead.Cipher, size int) {
		in, out, nonce := make([]byte, size), make([]byte, size+100), make([]byte, 12)
		b.SetBytes(int64(size))
		for b.Loop() {
			c.Seal(out[12:12], nonce, in, out[:12])
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	eachBench(b, func(b *testing.B, c aead.Cipher, size int) {
		out, nonce, ad := make([]byte, size), make([]byte, 12), make([]byte, 12)
		in := c.Seal(nil, nonce, out, ad)
		b.SetBytes(int64(size))
		for b.Loop() {
			if _, err := c.Open(out[:0], nonce, in, ad); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// batchSize is as many packets of 1400 bytes as go into one super-packet.
const batchSize = 45

func BenchmarkSealBatch(b *testing.B) {
	eachBench(b, func(b *testing.B, c aead.Cipher, size int) {
		batch, packets := chain(batchSize, size, 40)
		fill(batch, packets)
		b.SetBytes(int64(size * batchSize))
		for b.Loop() {
			c.SealBatch(batch)
		}
		perPacket(b)
	})
}

func BenchmarkOpenBatch(b *testing.B) {
	eachBench(b, func(b *testing.B, c aead.Cipher, size int) {
		batch, packets := chain(batchSize, size, 40)
		fill(batch, packets)
		c.SealBatch(batch)
		b.SetBytes(int64(size * batchSize))
		for b.Loop() {
			if c.OpenBatch(batch) != batchSize {
				b.Fatal("not all opened")
			}
		}
		perPacket(b)
	})
}

func perPacket(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batchSize), "ns/packet")
}
