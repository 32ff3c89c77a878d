package keys

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

// PreludeMAC returns the authenticator of a session's prelude: proof that the dialling
// node knows the listener's public key, bound to its first TLS record. Random is the
// prelude's own, recordHash the SHA-256 of the record with its header. Compare the
// result with crypto/hmac.Equal.
func PreludeMAC(listener PublicKey, random [16]byte, recordHash [32]byte) [32]byte {
	key, err := hkdf.Key(sha256.New, listener[:], nil, labelPrelude+"\x00", 32)
	if err != nil {
		panic("keys: internal error: derive prelude key: " + err.Error())
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(random[:])
	mac.Write(recordHash[:])
	return [32]byte(mac.Sum(nil))
}
