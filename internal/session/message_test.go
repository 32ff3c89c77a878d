package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"tund/internal/keys"
)

var update = flag.Bool("update", false, "write testdata/messages.golden anew")

const goldenFile = "testdata/messages.golden"

// catalogue has one value of every message, with every field set.
func catalogue() []Message {
	counted := func(n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(i)
		}
		return out
	}
	return []Message{
		Hello{
			Versions: []uint16{1, 2}, Instance: [16]byte(counted(17)[1:]), Mode: "tap", MTU: 1420, UDPPort: 7900,
			AEADs: []keys.AEAD{keys.ChaCha20Poly1305, keys.AES256GCM}, Features: []string{"partial-csum"},
		},
		Rekey{Exchange: 1, Epoch: 2, X25519: counted(32), MLKEM: counted(1184), Index: 0x123456, Preshared: true},
		RekeyReply{Exchange: 1, Body: mustBody(ReplyBody{X25519: counted(32), MLKEM: counted(1088), Index: 0xffffff}), Tag: [32]byte(counted(32))},
		RekeyDone{Exchange: 1, Tag: [32]byte(counted(32))},
		Reiv{Exchange: 4, Epoch: 2, Generation: 65535, Index: 1},
		ReivReply{Exchange: 4, Epoch: 2, Generation: 3, Index: 300},
		ReivDone{Exchange: 4, Epoch: 2, Generation: 3},
		Abort{Exchange: math.MaxUint32, Reason: AbortPSK, Text: "pre-shared keys differ"},
		Ping{Data: [8]byte(counted(8))},
		Pong{Data: [8]byte(counted(8))},
		Shutdown{Reason: "maintenance", StayDown: true},
		Close{Code: CloseMode, Text: "größer"},
	}
}

func mustBody(b ReplyBody) []byte {
	data, err := encodeBody(b)
	if err != nil {
		panic(err)
	}
	return data
}

// readGolden gives the vectors by the name of the message.
func readGolden(t testing.TB) map[string][]byte {
	t.Helper()
	file, err := os.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(file)
	out := map[string][]byte{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		data, err := hex.DecodeString(text)
		if !ok || err != nil {
			t.Fatalf("%s: %q: %v", goldenFile, lines.Text(), err)
		}
		out[name] = data
	}
	return out
}

func TestMessagesHaveTheirGoldenBytes(t *testing.T) {
	if *update {
		var out bytes.Buffer
		for _, m := range catalogue() {
			fmt.Fprintf(&out, "%s %x\n", m.Type(), mustEncode(t, m))
		}
		if err := os.WriteFile(goldenFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden := readGolden(t)
	for _, m := range catalogue() {
		want := golden[m.Type().String()]
		if got := mustEncode(t, m); !bytes.Equal(got, want) {
			t.Errorf("%s is\n%x, not\n%x", m.Type(), got, want)
		}
		got, err := Decode(want)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %#v, %v", m.Type(), got, err)
		}
	}
}

func TestCatalogueIsComplete(t *testing.T) {
	var types []Type
	for _, m := range catalogue() {
		types = append(types, m.Type())
		if !permitted[stateOpen][m.Type()] && m.Type() != TypeHello {
			t.Errorf("%s is never permitted", m.Type())
		}
	}
	for n := Type(1); n < typeEnd; n++ {
		if !slices.Contains(types, n) {
			t.Errorf("%s is not in the catalogue", n)
		}
		if strings.HasPrefix(n.String(), "message type") {
			t.Errorf("type %d has no name", uint8(n))
		}
		if permit(stateClosed, n) == nil {
			t.Errorf("%s is permitted after the end", n)
		}
	}
}

// raw builds CBOR by hand.
func raw(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeIsStrict(t *testing.T) {
	const ping = "82 09 a1 01 48 0001020304050607"
	if _, err := Decode(raw(t, ping)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":                    "",
		"no array":                   "a1 01 48 0001020304050607",
		"an array of one":            "81 09",
		"an array of three":          "83 09 a1 01 48 0001020304050607 00",
		"bytes behind it":            ping + "00",
		"cut short":                  "82 09 a1 01 48 00010203040506",
		"unknown type":               "82 18 63 a0",
		"type zero":                  "82 00 a0",
		"type as text":               "82 61 39 a1 01 48 0001020304050607",
		"long form of the type":      "82 18 09 a1 01 48 0001020304050607",
		"unknown key":                "82 09 a2 01 48 0001020304050607 02 00",
		"text key":                   "82 09 a2 01 48 0001020304050607 61 61 00",
		"key twice":                  "82 09 a2 01 48 0001020304050607 01 48 0001020304050607",
		"missing key":                "82 09 a0",
		"byte string too short":      "82 09 a1 01 47 00010203040506",
		"byte string too long":       "82 09 a1 01 49 000102030405060708",
		"indefinite byte string":     "82 09 a1 01 5f 48 0001020304050607 ff",
		"indefinite map":             "82 09 bf 01 48 0001020304050607 ff",
		"indefinite array":           "9f 09 a1 01 48 0001020304050607 ff",
		"array for bytes":            "82 09 a1 01 88 00 01 02 03 04 05 06 07",
		"null for bytes":             "82 09 a1 01 f6",
		"tagged":                     "c0 82 09 a1 01 48 0001020304050607",
		"tag inside":                 "82 09 a1 01 d8 18 48 0001020304050607",
		"body null":                  "82 09 f6",
		"body an array":              "82 09 81 48 0001020304050607",
		"keys out of order":          "82 0b a2 02 f5 01 60",
		"text not UTF-8":             "82 0b a2 01 61 ff 02 f5",
		"text with a control":        "82 0b a2 01 61 1b 02 f5",
		"bool as number":             "82 0b a2 01 60 02 01",
		"float for a number":         "82 08 a3 01 f9 3c00 02 01 03 60",
		"negative number":            "82 08 a3 01 20 02 01 03 60",
		"number beyond its type":     "82 08 a3 01 1b 0000000100000000 02 01 03 60",
		"close without a code":       "82 0c a2 01 00 02 60",
		"hello without versions":     "82 01 a7 01 80 02 50 01000000000000000000000000000000 03 63 74756e 04 00 05 00 06 40 07 80",
		"hello without instance":     "82 01 a7 01 81 01 02 50 00000000000000000000000000000000 03 63 74756e 04 00 05 00 06 40 07 80",
		"hello without features":     "82 01 a6 01 81 01 02 50 01000000000000000000000000000000 03 63 74756e 04 00 05 00 06 40",
		"hello with array of aeads":  "82 01 a7 01 81 01 02 50 01000000000000000000000000000000 03 63 74756e 04 00 05 00 06 81 01 07 80",
		"hello with unknown twice":   "82 01 a9 01 81 01 02 50 01000000000000000000000000000000 03 63 74756e 04 00 05 00 06 40 07 80 08 00 08 00",
		"hello with negative mtu":    "82 01 a7 01 81 01 02 50 01000000000000000000000000000000 03 63 74756e 04 20 05 00 06 40 07 80",
		"hello with port of 17 bits": "82 01 a7 01 81 01 02 50 01000000000000000000000000000000 03 63 74756e 04 00 05 1a 00010000 06 40 07 80",
	} {
		if m, err := Decode(raw(t, text)); err == nil {
			t.Errorf("%s: taken as %#v", name, m)
		}
	}
}

func TestHelloMayCarryUnknownKeys(t *testing.T) {
	data := raw(t, "82 01 a9 01 81 01 02 50 01000000000000000000000000000000 03 63 74756e 04 00 05 00 06 40 07 80 18 2a 82 01 02 63 666f6f f5")
	m, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if h := m.(Hello); h.Mode != "tun" || h.Versions[0] != 1 {
		t.Errorf("%#v", h)
	}
}

func TestFieldsHaveLimits(t *testing.T) {
	rekey := catalogue()[1].(Rekey)
	hello := catalogue()[0].(Hello)
	with := func(change func(r *Rekey, h *Hello)) (Rekey, Hello) {
		r, h := rekey, hello
		change(&r, &h)
		return r, h
	}
	for name, change := range map[string]func(r *Rekey, h *Hello){
		"exchange": func(r *Rekey, h *Hello) { r.Exchange, h.MTU = 0, -1 },
		"epoch":    func(r *Rekey, h *Hello) { r.Epoch, h.UDPPort = 0, 65536 },
		"index":    func(r *Rekey, h *Hello) { r.Index, h.Instance = 0, [16]byte{} },
		"index 24": func(r *Rekey, h *Hello) { r.Index, h.Mode = 1<<24, "tun\n" },
		"x25519":   func(r *Rekey, h *Hello) { r.X25519, h.Features = r.X25519[1:], make([]string, maxList+1) },
		"mlkem":    func(r *Rekey, h *Hello) { r.MLKEM, h.AEADs = append(r.MLKEM, 0), make([]keys.AEAD, maxList+1) },
	} {
		r, h := with(change)
		if _, err := Encode(r); err == nil {
			t.Errorf("REKEY: %s", name)
		}
		if _, err := Encode(h); err == nil {
			t.Errorf("HELLO beside %s", name)
		}
	}
	for _, m := range []Message{
		Reiv{Exchange: 1, Epoch: 1, Generation: keys.MaxGeneration, Index: 1},
		Reiv{Exchange: 1, Epoch: 1, Generation: 0, Index: 1},
		Abort{Exchange: 1, Reason: 1, Text: strings.Repeat("x", maxText+1)},
	} {
		if _, err := Encode(m); err == nil {
			t.Errorf("%#v is taken", m)
		}
	}
}

func TestFitTextFits(t *testing.T) {
	for _, text := range []string{"", "plain", "new\nline\x1b[2J", "\xff\xfe", strings.Repeat("ü", 300), "\u202e"} {
		if got := fitText(text); checkText(got) != nil {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := fitText("no change: größer"); got != "no change: größer" {
		t.Errorf("got %q", got)
	}
}

func TestFrameLengthIsCheckedBeforeAnythingElse(t *testing.T) {
	for _, n := range []uint32{0, MaxMessage + 1, math.MaxUint32} {
		var bad *frameError
		if _, err := readFrame(bytes.NewReader(binary.BigEndian.AppendUint32(nil, n))); !errors.As(err, &bad) {
			t.Errorf("length %d: %v", n, err)
		}
	}
	if _, err := readFrame(bytes.NewReader(append(lengthOf(5), 1, 2, 3))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut short: %v", err)
	}
	data, err := readFrame(bytes.NewReader(frame([]byte{1, 2, 3})))
	if err != nil || !bytes.Equal(data, []byte{1, 2, 3}) {
		t.Errorf("%x, %v", data, err)
	}
}

// FuzzDecode: what parses must re-encode to the same bytes. Only a HELLO may lose what
// this version does not know, and only there.
func FuzzDecode(f *testing.F) {
	for _, data := range readGolden(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatalf("%#v does not encode: %v", m, err)
		}
		if m.Type() != TypeHello {
			if !bytes.Equal(again, data) {
				t.Fatalf("%x became %x", data, again)
			}
			return
		}
		if twice, err := Decode(again); err != nil || !reflect.DeepEqual(twice, m) {
			t.Fatalf("%#v became %#v, %v", m, twice, err)
		}
	})
}

// FuzzReplyBody: the same for the part of a REKEY_REPLY that is encoded on its own.
func FuzzReplyBody(f *testing.F) {
	f.Add(catalogue()[2].(RekeyReply).Body)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeReplyBody(data)
		if err != nil {
			return
		}
		if again := mustBody(b); !bytes.Equal(again, data) {
			t.Fatalf("%x became %x", data, again)
		}
	})
}

// FuzzFrame: a frame that is read must be written the same.
func FuzzFrame(f *testing.F) {
	f.Add(frame([]byte("message")))
	f.Add(lengthOf(math.MaxUint32))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(data, frame(m)) {
			t.Fatalf("%x became %x", data, frame(m))
		}
	})
}

// FuzzPrelude: what is read of a prelude must be what was there.
func FuzzPrelude(f *testing.F) {
	f.Add(appendPrelude(keys.PublicKey{1}, []byte{22, 3, 1, 0, 2, 1, 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := readPrelude(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(p.record) > maxRecord {
			t.Fatalf("record of %d bytes", len(p.record))
		}
		if again := slices.Concat(p.random[:], p.mac[:], p.record); !bytes.HasPrefix(data, again) {
			t.Fatalf("%x became %x", data, again)
		}
	})
}

// helloWith is a HELLO with so many keys: those of this version, and later ones.
func helloWith(t *testing.T, pairs int) []byte {
	t.Helper()
	known := mustEncode(t, catalogue()[0])
	body := map[uint64]cbor.RawMessage{}
	var e envelope
	if err := errors.Join(lenient.Unmarshal(known, &e), lenient.Unmarshal(e.Body, &body)); err != nil {
		t.Fatal(err)
	}
	for key := uint64(1000); len(body) < pairs; key++ {
		body[key] = cbor.RawMessage{0xf6}
	}
	var err error
	if e.Body, err = encoding.Marshal(body); err != nil {
		t.Fatal(err)
	}
	data, err := encoding.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHelloHasAtMost64Keys(t *testing.T) {
	if _, err := Decode(helloWith(t, 64)); err != nil {
		t.Error(err)
	}
	if m, err := Decode(helloWith(t, 65)); err == nil {
		t.Errorf("taken: %+v", m)
	}
}
