package docs_test

import (
	"encoding/binary"
	"math/big"
	"math/bits"
	"slices"
	"testing"
)

// sealChaCha is ChaCha20-Poly1305 as RFC 8439 writes it down, slow and plain.
func sealChaCha(_ *testing.T, key, nonce, plaintext, ad []byte) []byte {
	var stream []byte
	for counter := uint32(1); len(stream) < len(plaintext); counter++ {
		stream = append(stream, chachaBlock(key, counter, nonce)...)
	}
	ciphertext := xor(plaintext, stream)
	lengths := binary.LittleEndian.AppendUint64(nil, uint64(len(ad)))
	lengths = binary.LittleEndian.AppendUint64(lengths, uint64(len(ciphertext)))
	authenticated := join(pad16(ad), pad16(ciphertext), lengths)
	return join(ciphertext, poly1305(chachaBlock(key, 0, nonce)[:32], authenticated))
}

func pad16(p []byte) []byte { return join(p, make([]byte, (16-len(p)%16)%16)) }

// chachaBlock is RFC 8439, section 2.3.
func chachaBlock(key []byte, counter uint32, nonce []byte) []byte {
	var start [16]uint32
	input := join([]byte("expand 32-byte k"), key, binary.LittleEndian.AppendUint32(nil, counter), nonce)
	for i := range start {
		start[i] = binary.LittleEndian.Uint32(input[4*i:])
	}
	state := start
	for range 10 {
		for i := range 4 {
			quarter(&state, i, 4+i, 8+i, 12+i)
		}
		for i := range 4 {
			quarter(&state, i, 4+(i+1)%4, 8+(i+2)%4, 12+(i+3)%4)
		}
	}
	var out []byte
	for i := range state {
		out = binary.LittleEndian.AppendUint32(out, state[i]+start[i])
	}
	return out
}

func quarter(s *[16]uint32, a, b, c, d int) {
	s[a] += s[b]
	s[d] = bits.RotateLeft32(s[d]^s[a], 16)
	s[c] += s[d]
	s[b] = bits.RotateLeft32(s[b]^s[c], 12)
	s[a] += s[b]
	s[d] = bits.RotateLeft32(s[d]^s[a], 8)
	s[c] += s[d]
	s[b] = bits.RotateLeft32(s[b]^s[c], 7)
}

// poly1305 is RFC 8439, section 2.5, for messages of whole blocks.
func poly1305(key, message []byte) []byte {
	clamp, _ := new(big.Int).SetString("0ffffffc0ffffffc0ffffffc0fffffff", 16)
	prime := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))
	r := new(big.Int).And(littleEndian(key[:16]), clamp)
	sum := new(big.Int)
	for ; len(message) > 0; message = message[16:] {
		sum.Add(sum, littleEndian(join(message[:16], []byte{1})))
		sum.Mod(sum.Mul(sum, r), prime)
	}
	sum.Add(sum, littleEndian(key[16:]))
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 128))
	tag := sum.FillBytes(make([]byte, 16))
	slices.Reverse(tag)
	return tag
}

func littleEndian(p []byte) *big.Int {
	p = slices.Clone(p)
	slices.Reverse(p)
	return new(big.Int).SetBytes(p)
}
