// Package aead seals and opens datagrams, one at a time or a batch in one call, and
// knows which AEAD suits this CPU.
//
// There are two engines. "go" is the standard library (AES-256-GCM) and
// golang.org/x/crypto (ChaCha20-Poly1305). "ipsec-mb" is Intel's IPsec Multi-Buffer
// library for AES-256-GCM, loaded at run time, and the Go engine for all else. [Open]
// gives the faster one that can be trusted: the library is used only in versions whose
// interface was verified, on CPUs where it is faster, and after it gave the same
// bytes as the standard library (verify.go).
//
// Nonces, packet numbers and limits are the caller's matter: package keys makes the
// nonce, package datapath counts. Engines and ciphers are safe for concurrent use.
// A data child opens its engine before its sandbox is closed: loading needs files.
package aead

import (
	"runtime"

	"golang.org/x/sys/cpu"

	"tund/internal/keys"
)

// Sizes of both AEADs, and of the associated data of a [Job].
const (
	NonceSize = 12
	TagSize   = 16
	ADSize    = 12 // a datagram's header, which stands in front of the sealed payload
)

// New returns the Go engine's cipher of one data key. The cipher keeps its own form of
// the key; the caller may wipe key.
func New(a keys.AEAD, key *keys.Secret) (Cipher, error) { return goEngine{}.New(a, key) }

// Preferred returns the AEADs that suit this CPU, the faster one first. AES is among them only
// where the CPU has instructions for both AES and the multiplication of GCM: without them it is
// slow, and computed with tables in memory, so that the time it takes depends on the key.
func Preferred() []keys.AEAD { return preferred(hardwareAES()) }

func preferred(hardware bool) []keys.AEAD {
	if hardware {
		return []keys.AEAD{keys.AES256GCM, keys.ChaCha20Poly1305}
	}
	return []keys.AEAD{keys.ChaCha20Poly1305}
}

func hardwareAES() bool {
	switch runtime.GOARCH {
	case "amd64":
		return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41
	case "arm64":
		return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	case "s390x":
		return cpu.S390X.HasAES && cpu.S390X.HasAESGCM
	default:
		return false
	}
}
