package aead_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/wire"
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

// eachEngine runs a test with every engine.
func eachEngine(t *testing.T, test func(t *testing.T, e aead.Engine)) {
	t.Helper()
	for _, name := range []string{aead.ChooseGo, aead.ChooseIPsecMB} {
		t.Run(name, func(t *testing.T) { test(t, open(t, name)) })
	}
}

// eachCipher runs a test with every AEAD of every engine.
func eachCipher(t *testing.T, test func(t *testing.T, c aead.Cipher)) {
	t.Helper()
	eachEngine(t, func(t *testing.T, e aead.Engine) {
		for _, a := range all {
			t.Run(a.String(), func(t *testing.T) { test(t, newCipher(t, e, a, keys.Secret{1})) })
		}
	})
}

// open returns an engine, or skips the test with the reason why there is none.
func open(t testing.TB, name string) aead.Engine {
	t.Helper()
	e, err := aead.Open(name)
	if err != nil {
		t.Skip(err)
	}
	if e.Name() != name {
		t.Fatalf("Open(%q) gave %q", name, e.Name())
	}
	return e
}

func newCipher(t testing.TB, e aead.Engine, a keys.AEAD, key keys.Secret) aead.Cipher {
	t.Helper()
	c, err := e.New(a, &key)
	if err != nil {
		t.Fatalf("New(%s): %v", a, err)
	}
	return c
}

// randomBytes returns what a seed gives, always the same.
func randomBytes(seed byte, size int) []byte {
	p := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(p) // never fails
	return p
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
			eachEngine(t, func(t *testing.T, e aead.Engine) {
				c := newCipher(t, e, tt.aead, keys.Secret(unhex(t, tt.key)))
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
		})
	}
}

func TestSizesAreThoseOfTheDatagram(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		if c.NonceSize() != aead.NonceSize || c.Overhead() != aead.TagSize {
			t.Errorf("nonce %d, tag %d", c.NonceSize(), c.Overhead())
		}
	})
	if aead.ADSize != wire.HeaderSize || aead.ADSize+aead.TagSize != wire.Overhead {
		t.Errorf("associated data of %d bytes, tag of %d: not those of a datagram", aead.ADSize, aead.TagSize)
	}
}

func TestEnginesSealToTheSameBytes(t *testing.T) {
	eachEngine(t, func(t *testing.T, e aead.Engine) {
		for _, a := range all {
			key := keys.Secret(randomBytes(7, 32))
			c, want := newCipher(t, e, a, key), newCipher(t, open(t, aead.ChooseGo), a, key)
			random := randomBytes(8, 64+9000)
			for size := range 9001 {
				if size > 600 && size%37 != 0 {
					continue
				}
				nonce, ad, payload := random[size%5:][:12], random[size%7:][:size%33], random[64:][:size]
				sealed := c.Seal(nil, nonce, payload, ad)
				if !bytes.Equal(sealed, want.Seal(nil, nonce, payload, ad)) {
					t.Fatalf("%s: %d bytes sealed differently", a, size)
				}
				opened, err := c.Open(nil, nonce, sealed, ad)
				if err != nil || !bytes.Equal(opened, payload) {
					t.Fatalf("%s: %d bytes: Open: %v", a, size, err)
				}
			}
		}
	})
}

func TestOpenRefusesWhatWasChanged(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		nonce, ad := make([]byte, 12), make([]byte, 12)
		sealed := c.Seal(nil, nonce, randomBytes(1, 300), ad)
		refused := func(what string, i int, nonce, sealed, ad []byte) {
			t.Helper()
			out := bytes.Repeat([]byte{0xff}, 300)
			if _, err := c.Open(out[:0], nonce, sealed, ad); err == nil {
				t.Errorf("opened with byte %d of the %s changed", i, what)
			}
			if left := out[:max(0, len(sealed)-aead.TagSize)]; !bytes.Equal(left, make([]byte, len(left))) {
				t.Errorf("left plaintext with byte %d of the %s changed", i, what)
			}
		}
		for i := range sealed {
			refused("datagram", i, nonce, changed(sealed, i), ad)
		}
		for i := range ad {
			refused("nonce", i, changed(nonce, i), sealed, ad)
			refused("associated data", i, nonce, sealed, changed(ad, i))
		}
		for size := range sealed {
			if _, err := c.Open(nil, nonce, sealed[:size], ad); err == nil {
				t.Errorf("opened the first %d bytes", size)
			}
		}
	})
}

// changed returns a copy of p with one bit of a byte changed.
func changed(p []byte, i int) []byte {
	p = bytes.Clone(p)
	p[i] ^= 1 << (i % 8)
	return p
}

func TestNewRefusesAnUnknownAEAD(t *testing.T) {
	eachEngine(t, func(t *testing.T, e aead.Engine) {
		for _, a := range []keys.AEAD{0, 3, 255} {
			if c, err := e.New(a, &keys.Secret{1}); err == nil || c != nil {
				t.Errorf("New(%d) = %v, %v, want an error", a, c, err)
			}
		}
	})
}

func TestAESIsPreferredOnlyWithInstructionsForIt(t *testing.T) {
	if got, want := aead.PreferredWith(true), []keys.AEAD{keys.AES256GCM, keys.ChaCha20Poly1305}; !slices.Equal(got, want) {
		t.Errorf("with instructions for AES: %v, want %v", got, want)
	}
	if got, want := aead.PreferredWith(false), []keys.AEAD{keys.ChaCha20Poly1305}; !slices.Equal(got, want) {
		t.Errorf("without: %v, want %v", got, want)
	}
}

func TestSealAndOpenAppendToWhatIsThere(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		nonce, payload := make([]byte, 12), []byte("payload")
		sealed := c.Seal([]byte("before"), nonce, payload, nil)
		if !bytes.Equal(sealed, append([]byte("before"), c.Seal(nil, nonce, payload, nil)...)) {
			t.Errorf("Seal behind something = %x", sealed)
		}
		opened, err := c.Open([]byte("before"), nonce, sealed[6:], nil)
		if err != nil || string(opened) != "beforepayload" {
			t.Errorf("Open behind something = %q, %v", opened, err)
		}
	})
}

func TestSealAndOpenInPlaceDoNotAllocate(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		nonce, ad := make([]byte, 12), make([]byte, 12)
		buffer := make([]byte, 1400, 1400+16)
		allocs := testing.AllocsPerRun(100, func() {
			sealed := c.Seal(buffer[:0], nonce, buffer, ad)
			if _, err := c.Open(sealed[:0], nonce, sealed, ad); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%v allocations, want 0", allocs)
		}
	})
}

func TestWrongBuffersPanic(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		buffer, nonce := make([]byte, 100), make([]byte, 12)
		for name, call := range map[string]func(){
			"short nonce":          func() { c.Seal(nil, nonce[:11], nil, nil) },
			"long nonce":           func() { _, _ = c.Open(nil, make([]byte, 13), buffer, nil) },
			"sealing one further":  func() { c.Seal(buffer[1:1], nonce, buffer[:40], nil) },
			"sealing one back":     func() { c.Seal(buffer[:0], nonce, buffer[1:40], nil) },
			"opening one further":  func() { _, _ = c.Open(buffer[1:1], nonce, buffer[:40], nil) },
			"opening from the end": func() { _, _ = c.Open(buffer[:0], nonce, buffer[20:60], nil) },
		} {
			if !panics(call) {
				t.Errorf("%s: no panic", name)
			}
		}
	})
}

func panics(call func()) (did bool) {
	defer func() { did = recover() != nil }()
	call()
	return false
}
