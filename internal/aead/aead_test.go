package aead_test

import (
	"bytes"
	"crypto/cipher"
	"encoding/hex"
	"slices"
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
)

var all = []keys.AEAD{keys.AES256GCM, keys.ChaCha20Poly1305}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	p, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newCipher(t testing.TB, a keys.AEAD, key keys.Secret) cipher.AEAD {
	t.Helper()
	c, err := aead.New(a, key)
	if err != nil {
		t.Fatalf("New(%s): %v", a, err)
	}
	return c
}

func TestCiphersMatchPublishedVectors(t *testing.T) {
	tests := map[string]struct {
		aead                              keys.AEAD
		key, nonce, plaintext, ad, sealed string
	}{
		"GCM specification, test case 16": {
			aead:      keys.AES256GCM,
			key:       "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
			nonce:     "cafebabefacedbaddecaf888",
			plaintext: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
			ad:        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
			sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
				"76fc6ece0f4e1768cddf8853bb2d551b",
		},
		"RFC 8439, section 2.8.2": {
			aead:  keys.ChaCha20Poly1305,
			key:   "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
			nonce: "070000004041424344454647",
			plaintext: hex.EncodeToString([]byte("Ladies and Gentlemen of the class of '99: " +
				"If I could offer you only one tip for the future, sunscreen would be it.")),
			ad: "50515253c0c1c2c3c4c5c6c7",
			sealed: "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36" +
				"92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116" +
				"1ae10b594f09e26a7e902ecbd0600691",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCipher(t, tt.aead, keys.Secret(unhex(t, tt.key)))
			nonce, ad, plaintext := unhex(t, tt.nonce), unhex(t, tt.ad), unhex(t, tt.plaintext)
			sealed := c.Seal(nil, nonce, plaintext, ad)
			if !bytes.Equal(sealed, unhex(t, tt.sealed)) {
				t.Errorf("Seal = %x, want %s", sealed, tt.sealed)
			}
			opened, err := c.Open(nil, nonce, sealed, ad)
			if err != nil || !bytes.Equal(opened, plaintext) {
				t.Errorf("Open = %x, %v", opened, err)
			}
		})
	}
}

func TestSizesAreThoseOfTheDatagram(t *testing.T) {
	for _, a := range all {
		c := newCipher(t, a, keys.Secret{1})
		if c.NonceSize() != 12 || c.Overhead() != 16 {
			t.Errorf("%s: nonce %d, tag %d", a, c.NonceSize(), c.Overhead())
		}
	}
}

func TestOpenRefusesWhatWasChanged(t *testing.T) {
	for _, a := range all {
		c := newCipher(t, a, keys.Secret{1})
		nonce, ad := make([]byte, 12), make([]byte, 12)
		sealed := c.Seal(nil, nonce, []byte("payload"), ad)
		for i := range sealed {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1
			if _, err := c.Open(nil, nonce, changed, ad); err == nil {
				t.Errorf("%s: opened with byte %d changed", a, i)
			}
		}
		ad[0] ^= 1
		if _, err := c.Open(nil, nonce, sealed, ad); err == nil {
			t.Errorf("%s: opened with other associated data", a)
		}
	}
}

func TestNewRefusesAnUnknownAEAD(t *testing.T) {
	for _, a := range []keys.AEAD{0, 3, 255} {
		if c, err := aead.New(a, keys.Secret{1}); err == nil || c != nil {
			t.Errorf("New(%d) = %v, %v, want an error", a, c, err)
		}
	}
}

func TestPreferredNamesEveryAEADOnce(t *testing.T) {
	got := aead.Preferred()
	slices.Sort(got)
	if !slices.Equal(got, all) {
		t.Errorf("Preferred() sorted = %v, want %v", got, all)
	}
	if aead.Engine() != "go" {
		t.Errorf("Engine() = %q", aead.Engine())
	}
}

func TestSealAndOpenInPlaceDoNotAllocate(t *testing.T) {
	for _, a := range all {
		c := newCipher(t, a, keys.Secret{1})
		nonce, ad := make([]byte, 12), make([]byte, 12)
		buffer := make([]byte, 1400, 1400+16)
		allocs := testing.AllocsPerRun(100, func() {
			sealed := c.Seal(buffer[:0], nonce, buffer, ad)
			if _, err := c.Open(sealed[:0], nonce, sealed, ad); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations, want 0", a, allocs)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, a := range all {
		b.Run(a.String(), func(b *testing.B) {
			c := newCipher(b, a, keys.Secret{1})
			nonce, ad := make([]byte, 12), make([]byte, 12)
			buffer := make([]byte, 1400, 1400+16)
			b.SetBytes(1400)
			b.ReportAllocs()
			for b.Loop() {
				c.Seal(buffer[:0], nonce, buffer, ad)
			}
		})
	}
}
