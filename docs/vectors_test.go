// Package docs_test holds the documents to what they say.
//
// The test vectors of protocol.md are computed here a second time, from the text of the
// document and with nothing but the hash functions and AES of the standard library; then
// the program's packages are compared with the same values.
package docs_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
)

// vector is one block of the document. It knows which of its values were looked at.
type vector struct {
	t      *testing.T
	name   string
	values map[string][]byte
	used   map[string]bool
}

// get returns a value that the block must have.
func (v *vector) get(name string) []byte {
	v.t.Helper()
	value, ok := v.values[name]
	if !ok {
		v.t.Fatalf("%s: no %s", v.name, name)
	}
	v.used[name] = true
	return value
}

// number returns a value as an integer.
func (v *vector) number(name string) uint64 {
	v.t.Helper()
	var padded [8]byte
	copy(padded[8-len(v.get(name)):], v.get(name))
	return binary.BigEndian.Uint64(padded[:])
}

// is compares a value of the document with a computed one.
func (v *vector) is(name string, computed []byte) {
	v.t.Helper()
	if !bytes.Equal(v.get(name), computed) {
		v.t.Errorf("%s: %s: the document has %x, computed %x", v.name, name, v.get(name), computed)
	}
}

// readVectors returns the blocks of protocol.md in their order.
func readVectors(t *testing.T) []*vector {
	t.Helper()
	text, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []*vector
	for _, part := range strings.Split(string(text), "\n```vector ")[1:] {
		block, _, found := strings.Cut(part, "\n```\n")
		if !found {
			t.Fatalf("block without an end: %.40q", part)
		}
		vectors = append(vectors, readVector(t, block))
	}
	return vectors
}

func readVector(t *testing.T, block string) *vector {
	t.Helper()
	head, body, _ := strings.Cut(block, "\n")
	v := &vector{t: t, name: head, values: map[string][]byte{}, used: map[string]bool{}}
	body = strings.ReplaceAll(body, "\n ", " ")
	for line := range strings.Lines(body) {
		name, value, found := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if _, twice := v.values[name]; !found || twice {
			t.Fatalf("%s: bad line %q", head, line)
		}
		v.values[name] = readValue(t, value)
	}
	return v
}

// readValue puts the parts of a value together.
func readValue(t *testing.T, text string) []byte {
	t.Helper()
	var value []byte
	for part := range strings.FieldsSeq(text) {
		if quoted, err := strconv.Unquote(part); err == nil {
			value = append(value, quoted...)
			continue
		}
		digits, times, repeated := strings.Cut(part, "*")
		count := 1
		if repeated {
			count, _ = strconv.Atoi(times)
		}
		decoded, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("value %q: %v", part, err)
		}
		value = append(value, bytes.Repeat(decoded, count)...)
	}
	return value
}

// The functions of the protocol, from its text.

func hmac256(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}

func extract(salt, ikm []byte) []byte { return hmac256(salt, ikm) }

// expand is RFC 5869, section 2.3.
func expand(prk []byte, label string, rest []byte, length int) []byte {
	info := join([]byte(label), []byte{0}, rest)
	var out, block []byte
	for i := byte(1); len(out) < length; i++ {
		block = hmac256(prk, join(block, info, []byte{i}))
		out = append(out, block...)
	}
	return out[:length]
}

func sum(parts ...[]byte) []byte {
	hash := sha256.Sum256(join(parts...))
	return hash[:]
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

func recomputeIdentities(v *vector) {
	for _, node := range []string{"dialler", "listener"} {
		private := ed25519.NewKeyFromSeed(v.get("seed_" + node))
		v.is("public_"+node, private[32:])
	}
}

func recomputePrelude(v *vector) {
	prk := extract(make([]byte, 32), v.get("public_listener"))
	key := expand(prk, "tund v1 prelude", nil, 32)
	mac := hmac256(key, join(v.get("random"), sum(v.get("record"))))
	v.is("prk", prk)
	v.is("record_hash", sum(v.get("record")))
	v.is("key", key)
	v.is("mac", mac)
	v.is("sent", join(v.get("random"), mac, v.get("record")))
}

func recomputeTranscript(v *vector) {
	var all []byte
	for _, name := range []string{"hello_dialler", "hello_listener", "rekey", "reply_body"} {
		all = join(all, u32(len(v.get(name))), v.get(name))
	}
	v.is("th", sum(all))
}

func recomputeDerive(v *vector) {
	ctx := join(v.get("public_dialler"), v.get("public_listener"), v.get("th"))
	prk := extract(v.get("chain_before"), join(v.get("x25519"), v.get("mlkem"), v.get("psk")))
	v.is("prk", prk)
	v.is("chain_after", expand(prk, "tund v1 chain", ctx, 32))
	for _, node := range []string{"dialler", "listener"} {
		rest := join(v.get("public_"+node), ctx)
		data := expand(prk, "tund v1 data", rest, 44)
		confirm := expand(prk, "tund v1 confirm", rest, 32)
		v.is("key_"+node, data[:32])
		v.is("iv_"+node, data[32:])
		v.is("confirm_"+node, confirm)
		v.is("tag_"+node, hmac256(confirm, v.get("th")))
	}
}

func generationIV(v *vector) []byte {
	return xor(v.get("iv"), join(v.get("generation"), make([]byte, 8)))
}

func nonce(v *vector) []byte {
	return xor(generationIV(v), join(make([]byte, 4), v.get("number")))
}

func recomputeNonce(v *vector) {
	v.is("generation_iv", generationIV(v))
	v.is("nonce", nonce(v))
}

// recomputeDatagram is for DATA and PROBE alike.
func recomputeDatagram(v *vector, kind byte, seal sealer) {
	header := join([]byte{kind << 4}, v.get("index"), v.get("number"))
	v.is("header", header)
	v.is("nonce", nonce(v))
	v.is("datagram", join(header, seal(v.t, v.get("key"), nonce(v), v.get("plaintext"), header)))
}

func recomputeProbe(v *vector) {
	v.is("plaintext", join(v.get("kind"), make([]byte, 7), v.get("id"), v.get("stamp"),
		v.get("received"), v.get("missing"), v.get("padding")))
	recomputeDatagram(v, 2, sealAES)
}

// sealer returns ciphertext and tag.
type sealer func(t *testing.T, key, nonce, plaintext, ad []byte) []byte

func sealAES(t *testing.T, key, nonce, plaintext, ad []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm.Seal(nil, nonce, plaintext, ad)
}

// recompute finds the function for a block. It says whether there is one.
func recompute(v *vector) bool {
	switch {
	case v.name == "identities":
		recomputeIdentities(v)
	case v.name == "prelude":
		recomputePrelude(v)
	case v.name == "transcript":
		recomputeTranscript(v)
	case strings.HasPrefix(v.name, "derive "):
		recomputeDerive(v)
	case strings.HasPrefix(v.name, "nonce "):
		recomputeNonce(v)
	case strings.HasPrefix(v.name, "data aes-256-gcm"):
		recomputeDatagram(v, 1, sealAES)
	case v.name == "data chacha20-poly1305":
		recomputeDatagram(v, 1, sealChaCha)
	case strings.HasPrefix(v.name, "probe "):
		recomputeProbe(v)
	default:
		return false
	}
	return true
}

func TestDocumentedVectorsFollowFromTheText(t *testing.T) {
	blocks := map[string]int{}
	for _, v := range readVectors(t) {
		kind, _, _ := strings.Cut(v.name, " ")
		if kind == "messages" { // has a test of its own
			continue
		}
		if !recompute(v) {
			t.Errorf("block %q: nothing recomputes it", v.name)
			continue
		}
		blocks[kind]++
		for name := range v.values {
			if !v.used[name] {
				t.Errorf("%s: %s is not looked at", v.name, name)
			}
		}
	}
	for kind, least := range map[string]int{"identities": 1, "prelude": 1, "transcript": 1, "derive": 2, "nonce": 2, "data": 3, "probe": 2} {
		if blocks[kind] < least {
			t.Errorf("%d blocks of %s, want %d", blocks[kind], kind, least)
		}
	}
}
