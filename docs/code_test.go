package docs_test

import (
	"bytes"
	"strings"
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/wire"
)

// The same vectors once more, from the packages of the program.

func TestCodeAgreesWithTheDocumentedVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		switch kind, _, _ := strings.Cut(v.name, " "); kind {
		case "identities":
			checkIdentities(v)
		case "prelude":
			mac := keys.PreludeMAC(keys.PublicKey(v.get("public_listener")), [16]byte(v.get("random")), [32]byte(v.get("record_hash")))
			v.is("mac", mac[:])
		case "transcript":
			th := keys.Transcript{
				HelloDialler: v.get("hello_dialler"), HelloListener: v.get("hello_listener"),
				Rekey: v.get("rekey"), ReplyBody: v.get("reply_body"),
			}.Hash()
			v.is("th", th[:])
		case "derive":
			checkDerive(v)
		case "nonce":
			checkNonce(v)
		case "data":
			checkDatagram(v, wire.TypeData)
		case "probe":
			checkProbe(v)
			checkDatagram(v, wire.TypeProbe)
		}
	}
}

func checkIdentities(v *vector) {
	for _, node := range []string{"dialler", "listener"} {
		seed := keys.Secret(v.get("seed_" + node))
		public := keys.NewIdentity(&seed).Public()
		v.is("public_"+node, public[:])
	}
}

func checkDerive(v *vector) {
	in := keys.Input{
		Chain:  keys.Secret(v.get("chain_before")),
		X25519: v.get("x25519"), MLKEM: v.get("mlkem"),
		Dialler: keys.PublicKey(v.get("public_dialler")), Listener: keys.PublicKey(v.get("public_listener")),
		TH: [32]byte(v.get("th")),
	}
	if psk := keys.Secret(v.get("psk")); !psk.IsZero() {
		in.PSK = &psk
	}
	m, err := keys.Derive(&in)
	if err != nil {
		v.t.Fatalf("%s: %v", v.name, err)
	}
	v.is("chain_after", m.Chain[:])
	for node, sender := range map[string]keys.PublicKey{"dialler": in.Dialler, "listener": in.Listener} {
		data, tag := m.Data(sender), m.Tag(sender)
		v.is("key_"+node, data.Key[:])
		v.is("iv_"+node, data.IV[:])
		v.is("tag_"+node, tag[:])
	}
}

func checkNonce(v *vector) {
	iv, g := [12]byte(v.get("iv")), keys.Generation(v.number("generation"))
	generation := keys.GenerationIV(iv, g)
	v.is("generation_iv", generation[:])
	nonce := keys.Nonce(iv, g, wire.PacketNumber(v.number("number")))
	v.is("nonce", nonce[:])
}

func checkDatagram(v *vector, kind wire.Type) {
	number := wire.PacketNumber(v.number("number"))
	h := wire.Header{Type: kind, Index: wire.Index(v.number("index")), Number: number}
	header := h.Append(nil)
	v.is("header", header)
	if parsed, err := wire.ParseHeader(v.get("datagram")); err != nil || parsed != h {
		v.t.Errorf("%s: ParseHeader = %+v, %v, want %+v", v.name, parsed, err, h)
	}
	nonce := keys.Nonce([12]byte(v.get("iv")), keys.Generation(v.number("generation")), number)
	key := keys.Secret(v.get("key"))
	c, err := aead.New(algorithm(v), &key)
	if err != nil {
		v.t.Fatalf("%s: %v", v.name, err)
	}
	v.is("datagram", c.Seal(bytes.Clone(header), nonce[:], v.get("plaintext"), header))
	opened, err := c.Open(nil, nonce[:], v.get("datagram")[wire.HeaderSize:], header)
	if err != nil {
		v.t.Errorf("%s: open: %v", v.name, err)
	}
	v.is("plaintext", opened)
}

func algorithm(v *vector) keys.AEAD {
	if strings.Contains(v.name, "chacha20-poly1305") {
		return keys.ChaCha20Poly1305
	}
	return keys.AES256GCM
}

func checkProbe(v *vector) {
	p := wire.Probe{
		Kind: wire.ProbeKind(v.number("kind")), ID: v.number("id"), Stamp: v.number("stamp"),
		Received: v.number("received"), Missing: v.number("missing"),
	}
	v.is("plaintext", p.Append(nil, wire.ProbeSize+len(v.get("padding"))))
	if parsed, err := wire.ParseProbe(v.get("plaintext")); err != nil || parsed != p {
		v.t.Errorf("%s: ParseProbe = %+v, %v, want %+v", v.name, parsed, err, p)
	}
}
