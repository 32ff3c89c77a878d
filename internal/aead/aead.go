// Package aead seals and opens datagrams, and knows which AEAD suits this CPU.
//
// The implementations are those of the standard library (AES-256-GCM) and of
// golang.org/x/crypto (ChaCha20-Poly1305). Nonces, packet numbers and limits are the
// caller's matter: package keys makes the nonce, package datapath counts. What [New]
// returns is safe for concurrent use.
package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"runtime"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"

	"tund/internal/keys"
)

// Cipher seals and opens: the name of the standard library's interface in this house.
type Cipher = cipher.AEAD

// New returns the cipher of one data key. Both AEADs take nonces of 12 bytes and make
// tags of 16. The cipher keeps its own form of the key; the caller may wipe key.
func New(a keys.AEAD, key keys.Secret) (Cipher, error) {
	switch a {
	case keys.AES256GCM:
		block, err := aes.NewCipher(key[:])
		if err != nil {
			return nil, fmt.Errorf("aead %s: %w", a, err)
		}
		return cipher.NewGCM(block)
	case keys.ChaCha20Poly1305:
		return chacha20poly1305.New(key[:])
	default:
		return nil, fmt.Errorf("aead %s: unknown", a)
	}
}

// Preferred returns all AEADs, the one that is faster on this CPU first: AES where it
// has instructions for both AES and the multiplication of GCM.
func Preferred() []keys.AEAD {
	if hardwareAES() {
		return []keys.AEAD{keys.AES256GCM, keys.ChaCha20Poly1305}
	}
	return []keys.AEAD{keys.ChaCha20Poly1305, keys.AES256GCM}
}

// Engine names the implementation, for status.
func Engine() string { return "go" }

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
