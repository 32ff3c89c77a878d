package aead_test

import (
	"bytes"
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
)

// Both engines seal to the same bytes, open what was sealed, and agree on what is not
// authentic.
func FuzzEnginesAgree(f *testing.F) {
	f.Add([]byte("key"), []byte("nonce"), []byte("header"), []byte("payload"), uint16(3))
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, uint16(0))
	f.Add([]byte{1}, []byte{2}, make([]byte, 12), make([]byte, 1400), uint16(1415))
	engine := open(f, aead.ChooseIPsecMB)
	f.Fuzz(func(t *testing.T, keyText, nonceText, ad, payload []byte, change uint16) {
		var key keys.Secret
		var nonce [12]byte
		copy(key[:], keyText)
		copy(nonce[:], nonceText)
		c, want := newCipher(t, engine, keys.AES256GCM, key), newCipher(t, open(t, aead.ChooseGo), keys.AES256GCM, key)
		defer c.Wipe()
		sealed := c.Seal(nil, nonce[:], payload, ad)
		if !bytes.Equal(sealed, want.Seal(nil, nonce[:], payload, ad)) {
			t.Fatalf("sealed %x, differs", sealed)
		}
		opened, err := c.Open(nil, nonce[:], sealed, ad)
		if err != nil || !bytes.Equal(opened, payload) {
			t.Fatalf("opened %x, %v", opened, err)
		}
		sealed[int(change)%len(sealed)] ^= 1 << (change % 8)
		if _, err := c.Open(nil, nonce[:], sealed, ad); err == nil {
			t.Fatal("opened what was changed")
		}
	})
}
