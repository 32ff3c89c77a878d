// Package keys is what tund knows about keys: identities, epochs, the derivation of
// data keys, nonces, indexes, and a type for secrets that cannot be printed.
//
// It is pure: no goroutine, no I/O, and no clock but the one that [NewIndexes] is
// given. The parent derives; the child turns a data key, a generation and a packet
// number into a nonce. Sealing is package aead's, deciding when to change keys is
// package session's.
//
//	TLS exporter ─► chain[0]
//	                   │ salt
//	x25519 ─┐          ▼
//	ml-kem ─┼──────► Extract ─► prk ─┬─ "tund v1 chain"   ─► chain[n], the next salt
//	psk ────┘                        ├─ "tund v1 data"    ─► key and base IV, per sender
//	                                 └─ "tund v1 confirm" ─► key of the tag, per sender
//
// docs/protocol.md has the same in words and with test vectors.
//
// Wiping clears the memory that it is given. Go may have copied a value before, when
// it grew a stack for one; this package claims no more than that.
package keys
