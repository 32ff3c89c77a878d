package aead

import (
	"crypto/cipher"
	"fmt"

	"tund/internal/keys"
)

// The choices of [Open].
const (
	ChooseAuto    = "auto"
	ChooseGo      = "go"
	ChooseIPsecMB = "ipsec-mb"
)

// Engine makes ciphers.
type Engine interface {
	// Name is "go" or "ipsec-mb", for status and configuration.
	Name() string
	// Detail says what exactly is in use, for people.
	Detail() string
	// New returns the cipher of one data key. The cipher keeps its own form of the
	// key; the caller may wipe key.
	New(a keys.AEAD, key *keys.Secret) (Cipher, error)
}

// Cipher seals and opens with one data key. As any [cipher.AEAD], Seal and Open take
// buffers that are the same or do not overlap.
type Cipher interface {
	cipher.AEAD

	// SealBatch seals all jobs of b, in their order.
	SealBatch(b *Batch)

	// OpenBatch opens all jobs of b, in their order, and returns how many were
	// authentic. It says so in each job; the payload of one that was not is zeroed.
	OpenBatch(b *Batch) int

	// Wipe overwrites the key where the engine can (the Go engine leaves it to the
	// collector of garbage). Nothing may use the cipher during or after Wipe.
	Wipe()
}

// Open returns the engine of a choice: the fastest for "auto" and "". Whenever the
// choice is a known one the engine is usable: where ipsec-mb cannot be used it is the
// Go engine, and the error is the reason, for status. A caller that was told to use
// ipsec-mb and nothing else must look at the error.
func Open(choice string) (Engine, error) {
	switch choice {
	case ChooseGo:
		return goEngine{}, nil
	case ChooseAuto, ChooseIPsecMB, "":
		return openMultiBuffer(libraryFiles)
	default:
		return nil, fmt.Errorf("aead: engine %q: unknown", choice)
	}
}

// libraryFiles are the names of the library, newest first: of Debian 13 and of 12.
var libraryFiles = []string{"libIPSec_MB.so.2", "libIPSec_MB.so.1"}

// openMultiBuffer returns the engine of the first file that can be loaded and trusted,
// or the Go engine and the reasons. The library stays loaded for good.
func openMultiBuffer(files []string) (Engine, error) {
	var reason error
	for _, file := range files {
		e, err := loadMultiBuffer(file)
		if err == nil {
			err = verify(e)
		}
		if err == nil {
			return e, nil
		}
		reason = also(reason, err)
	}
	return goEngine{}, fmt.Errorf("%s: %w", ChooseIPsecMB, reason)
}

// also joins reasons on one line, each once.
func also(reason, err error) error {
	if reason == nil || reason.Error() == err.Error() {
		return err
	}
	return fmt.Errorf("%w; %w", reason, err)
}
