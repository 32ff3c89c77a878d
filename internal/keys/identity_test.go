package keys_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tund/internal/keys"
)

func TestIdentityIsThatOfRFC8032(t *testing.T) {
	seed := keys.Secret(unhex(t, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
	identity := keys.NewIdentity(&seed)
	public := identity.Public()
	if want := unhex(t, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"); !bytes.Equal(public[:], want) {
		t.Errorf("Public = %x, want %x", public[:], want)
	}
	message := []byte("message")
	signature, err := identity.Signer().Sign(nil, message, crypto.Hash(0))
	if err != nil || !ed25519.Verify(public[:], message, signature) {
		t.Errorf("Sign: %v, or the signature is not the public key's", err)
	}
}

func TestPublicKeySurvivesItsTextForm(t *testing.T) {
	key := keys.NewIdentity(&keys.Secret{1}).Public()
	parsed, err := keys.ParsePublicKey(key.String())
	if err != nil || parsed != key {
		t.Errorf("ParsePublicKey(%s) = %s, %v", key, parsed, err)
	}
	encoded, err := json.Marshal(map[string]keys.PublicKey{"k": key})
	if want := fmt.Sprintf(`{"k":%q}`, key.String()); err != nil || string(encoded) != want {
		t.Errorf("JSON = %s, %v, want %s", encoded, err, want)
	}
	var decoded map[string]keys.PublicKey
	if err := json.Unmarshal(encoded, &decoded); err != nil || decoded["k"] != key {
		t.Errorf("decoded = %v, %v", decoded, err)
	}
}

func TestParsePublicKeyRefuses(t *testing.T) {
	good := keys.NewIdentity(&keys.Secret{1}).Public().String()
	tests := map[string]struct {
		text string
		want error
	}{
		"nothing":           {"", keys.ErrKeyText},
		"space around":      {" " + good, keys.ErrKeyText},
		"a newline":         {good + "\n", keys.ErrKeyText},
		"a newline inside":  {good[:10] + "\n" + good[11:], keys.ErrKeyText},
		"one character off": {good[1:], keys.ErrKeyText},
		"all zero":          {strings.Repeat("A", 43) + "=", keys.ErrKeyZero},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			key := keys.PublicKey{9}
			if err := key.UnmarshalText([]byte(tt.text)); !errors.Is(err, tt.want) || key != (keys.PublicKey{9}) {
				t.Errorf("UnmarshalText error = %v, want %v; key = %v", err, tt.want, key)
			}
			if parsed, err := keys.ParsePublicKey(tt.text); !errors.Is(err, tt.want) || !parsed.IsZero() {
				t.Errorf("ParsePublicKey = %v, %v, want %v", parsed, err, tt.want)
			}
		})
	}
}

func TestPublicKeysHaveAnOrder(t *testing.T) {
	small, great := keys.PublicKey{0, 255}, keys.PublicKey{1}
	if small.Compare(great) != -1 || great.Compare(small) != 1 || small.Compare(small) != 0 {
		t.Error("not in the order of the bytes")
	}
}

func TestAEADNames(t *testing.T) {
	for number, name := range map[keys.AEAD]string{1: "aes-256-gcm", 2: "chacha20-poly1305"} {
		text, err := number.MarshalText()
		if err != nil || string(text) != name || number.String() != name || !number.Valid() {
			t.Errorf("%d: MarshalText = %s, %v", number, text, err)
		}
		var parsed keys.AEAD
		if err := parsed.UnmarshalText(text); err != nil || parsed != number {
			t.Errorf("%s: UnmarshalText = %d, %v", text, parsed, err)
		}
	}
	for _, unknown := range []keys.AEAD{0, 3} {
		if _, err := unknown.MarshalText(); err == nil || unknown.Valid() {
			t.Errorf("%d has a name", unknown)
		}
	}
	for _, name := range []string{"", "AES-256-GCM", "aes-128-gcm", "aead(3)"} {
		if got, err := keys.ParseAEAD(name); err == nil || got != 0 {
			t.Errorf("ParseAEAD(%q) = %d, %v", name, got, err)
		}
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add(keys.NewIdentity(&keys.Secret{1}).Public().String())
	f.Add(strings.Repeat("A", 43) + "=")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := keys.ParsePublicKey(text)
		if err == nil && key.String() != text {
			t.Errorf("String = %q, parsed from %q", key, text)
		}
	})
}
