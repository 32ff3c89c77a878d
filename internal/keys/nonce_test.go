package keys_test

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"tund/internal/keys"
	"tund/internal/wire"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	p, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNonceHasTheseBytes(t *testing.T) {
	tests := map[string]struct {
		iv         string
		generation keys.Generation
		number     wire.PacketNumber
		want       string
	}{
		"zero":           {"000000000000000000000000", 0, 0, "000000000000000000000000"},
		"places":         {"000000000000000000000000", 0x01020304, 0x05060708090a0b0c, "0102030405060708090a0b0c"},
		"XOR":            {"ffffffffffffffffffffffff", 1, 2, "fffffffefffffffffffffffd"},
		"base IV itself": {"0123456789abcdef01234567", 0, 0, "0123456789abcdef01234567"},
		"last":           {"ffffffffffffffffffffffff", keys.MaxGeneration - 1, 1<<64 - 1, "ffff00000000000000000000"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			iv := [12]byte(unhex(t, tt.iv))
			nonce := keys.Nonce(iv, tt.generation, tt.number)
			if got := hex.EncodeToString(nonce[:]); got != tt.want {
				t.Errorf("Nonce = %s, want %s", got, tt.want)
			}
			if got := keys.Nonce(keys.GenerationIV(iv, tt.generation), 0, tt.number); got != nonce {
				t.Errorf("Nonce of the generation's IV = %x, want %x", got, nonce)
			}
		})
	}
}

func TestNoTwoPairsShareANonce(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var iv [12]byte
	for i := range iv {
		iv[i] = byte(random.Uint32())
	}
	numbers := []wire.PacketNumber{0, 1, 255, 256, 1 << 32, 1<<32 + 1, 1 << 34, 1 << 63}
	seen := map[[12]byte]bool{}
	for g := range keys.MaxGeneration {
		for _, n := range numbers {
			nonce := keys.Nonce(iv, g, n)
			if seen[nonce] {
				t.Fatalf("generation %d, number %d: nonce seen before", g, n)
			}
			seen[nonce] = true
		}
	}
}

func TestNonceDoesNotAllocate(t *testing.T) {
	iv := [12]byte{1, 2, 3}
	var n wire.PacketNumber
	var sum byte
	allocs := testing.AllocsPerRun(1000, func() {
		n++
		nonce := keys.Nonce(iv, 3, n)
		sum += nonce[11]
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

func BenchmarkNonce(b *testing.B) {
	b.ReportAllocs()
	iv := [12]byte{1, 2, 3}
	var n wire.PacketNumber
	var sum byte
	for b.Loop() {
		n++
		nonce := keys.Nonce(iv, 3, n)
		sum += nonce[11]
	}
}
