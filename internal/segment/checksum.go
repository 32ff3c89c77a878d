package segment

import (
	"encoding/binary"
	"math/bits"
)

// The checksum of the Internet protocols (RFC 1071) does not depend on byte order, as long
// as what is stored is stored in the order it was loaded. So all sums here are of
// little-endian words, whatever the machine, and only numbers that come from
// elsewhere, such as a length, are turned (word). A sum is 64 bits wide with the
// carry added at the low end, until fold makes it 16.

// add adds the bytes of p to a sum. p begins at an even place of what is summed.
func add(sum uint64, p []byte) uint64 {
	var carry uint64
	for len(p) >= 64 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[56:]), carry)
		sum += carry
		p = p[64:]
	}
	for len(p) >= 8 {
		sum = plus(sum, binary.LittleEndian.Uint64(p))
		p = p[8:]
	}
	return addRest(sum, p)
}

// addRest adds less than eight bytes.
func addRest(sum uint64, p []byte) uint64 {
	if len(p) >= 4 {
		sum = plus(sum, uint64(binary.LittleEndian.Uint32(p)))
		p = p[4:]
	}
	if len(p) >= 2 {
		sum = plus(sum, uint64(binary.LittleEndian.Uint16(p)))
		p = p[2:]
	}
	if len(p) == 1 {
		sum = plus(sum, uint64(p[0]))
	}
	return sum
}

// plus adds two sums.
func plus(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	return sum + carry
}

// word is a number as it would be loaded from a packet.
func word(v int) uint64 { return uint64(bits.ReverseBytes16(uint16(v))) }

// fold makes 16 bits of a sum. It is 0 only if nothing but zeros was added.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// loadSum and storeSum are for checksum fields.
func loadSum(p []byte) uint16     { return binary.LittleEndian.Uint16(p) }
func storeSum(p []byte, s uint16) { binary.LittleEndian.PutUint16(p, s) }

// pseudo is the sum of the pseudo-header of the packet p but for its length.
func pseudo(p []byte, l layout) uint64 {
	if l.v6 {
		return add(word(int(l.protocol)), p[l.network+8:l.network+40])
	}
	return add(word(int(l.protocol)), p[l.network+12:l.network+20])
}

// verified reports whether the complete transport checksum in p is right.
func verified(p []byte, l layout) bool {
	sum := plus(pseudo(p, l), word(len(p)-l.transport))
	return fold(add(sum, p[l.transport:])) == 0xffff
}
