package aead_test

import (
	"crypto/cipher"
	"strings"
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
)

func TestOpenAlwaysGivesAUsableEngine(t *testing.T) {
	for _, choice := range []string{"", aead.ChooseAuto, aead.ChooseGo, aead.ChooseIPsecMB} {
		e, err := aead.Open(choice)
		if e == nil {
			t.Fatalf("Open(%q) = nil, %v", choice, err)
		}
		if wantReason := choice != aead.ChooseGo && e.Name() == aead.ChooseGo; (err != nil) != wantReason {
			t.Errorf("Open(%q) = %s, %v", choice, e.Name(), err)
		}
		if e.Detail() == "" {
			t.Errorf("Open(%q): no detail", choice)
		}
		newCipher(t, e, keys.AES256GCM, keys.Secret{1})
	}
	if e, err := aead.Open("fast"); err == nil || e != nil {
		t.Errorf("Open of an unknown engine = %v, %v", e, err)
	}
}

func TestMissingLibraryGivesTheGoEngineAndTheReason(t *testing.T) {
	e, err := aead.OpenFiles([]string{"libtund-none.so.2", "libtund-none.so.1"})
	if e == nil || e.Name() != aead.ChooseGo {
		t.Errorf("engine %v, want go", e)
	}
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "ipsec-mb: ") {
		t.Errorf("reason %v", err)
	}
	t.Log(err)
}

func TestVerifyTrustsTheEngines(t *testing.T) {
	eachEngine(t, func(t *testing.T, e aead.Engine) {
		for range 20 {
			if err := aead.Verify(e); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// faulty is an engine that does one thing wrong.
type faulty struct {
	aead.Engine
	wrap func(aead.Cipher) aead.Cipher
}

func (f faulty) New(a keys.AEAD, key *keys.Secret) (aead.Cipher, error) {
	c, err := f.Engine.New(a, key)
	return f.wrap(c), err
}

type (
	otherAnswers     struct{ aead.Cipher } // to associated data of other sizes than a datagram's
	flipsABit        struct{ aead.Cipher } // of payloads over 200 bytes
	opensAll         struct{ aead.Cipher }
	leavesPlaintext  struct{ aead.Cipher }
	ignoresHeads     struct{ aead.Cipher }
	trustsAllBatches struct{ aead.Cipher }
)

func (c otherAnswers) Seal(dst, nonce, plaintext, ad []byte) []byte {
	sealed := c.Cipher.Seal(dst, nonce, plaintext, ad)
	if len(ad) != aead.ADSize {
		sealed[len(sealed)-1] ^= 1
	}
	return sealed
}

func (c flipsABit) Seal(dst, nonce, plaintext, ad []byte) []byte {
	sealed := c.Cipher.Seal(dst, nonce, plaintext, ad)
	if len(plaintext) > 200 {
		sealed[len(dst)+200] ^= 1
	}
	return sealed
}

func (c opensAll) Open(dst, nonce, ciphertext, ad []byte) ([]byte, error) {
	if p, err := c.Cipher.Open(dst, nonce, ciphertext, ad); err == nil {
		return p, nil
	}
	return dst, nil
}

func (c leavesPlaintext) Open(dst, nonce, ciphertext, ad []byte) ([]byte, error) {
	p, err := c.Cipher.Open(dst, nonce, ciphertext, ad)
	if err != nil && len(ciphertext) > c.Overhead() {
		dst[len(dst) : len(dst)+1][0] = 1
	}
	return p, err
}

func (c ignoresHeads) SealBatch(b *aead.Batch) {
	for i := range b.Jobs {
		b.Jobs[i].HeadSize = 0
	}
	c.Cipher.SealBatch(b)
}

func (c trustsAllBatches) OpenBatch(b *aead.Batch) int {
	c.Cipher.OpenBatch(b)
	for i := range b.Jobs {
		b.Jobs[i].OK = true
	}
	return len(b.Jobs)
}

func TestVerifyFindsAFaultyEngine(t *testing.T) {
	for name, wrap := range map[string]func(aead.Cipher) aead.Cipher{
		"other answers":      func(c aead.Cipher) aead.Cipher { return otherAnswers{c} },
		"flips a bit":        func(c aead.Cipher) aead.Cipher { return flipsABit{c} },
		"opens all":          func(c aead.Cipher) aead.Cipher { return opensAll{c} },
		"leaves plaintext":   func(c aead.Cipher) aead.Cipher { return leavesPlaintext{c} },
		"ignores heads":      func(c aead.Cipher) aead.Cipher { return ignoresHeads{c} },
		"trusts all batches": func(c aead.Cipher) aead.Cipher { return trustsAllBatches{c} },
	} {
		if err := aead.Verify(faulty{open(t, aead.ChooseGo), wrap}); err == nil {
			t.Errorf("%s: trusted", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func TestWipedCipherIsNotUsed(t *testing.T) {
	c := newCipher(t, open(t, aead.ChooseIPsecMB), keys.AES256GCM, keys.Secret{1})
	c.Wipe()
	c.Wipe()
	nonce, buffer := make([]byte, 12), make([]byte, 100)
	for name, call := range map[string]func(){
		"Seal":      func() { c.Seal(nil, nonce, buffer, nil) },
		"Open":      func() { _, _ = c.Open(nil, nonce, buffer, nil) },
		"SealBatch": func() { c.SealBatch(&aead.Batch{}) },
		"OpenBatch": func() { c.OpenBatch(&aead.Batch{}) },
	} {
		if !panics(call) {
			t.Errorf("%s after Wipe: no panic", name)
		}
	}
}

// A cipher is what the standard library's users know.
var _ cipher.AEAD = aead.Cipher(nil)
