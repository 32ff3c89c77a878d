package keys_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"tund/internal/keys"
)

// The bytes of the test's secret, and what gives them away in any form of printing.
var (
	marked = keys.Secret(bytes.Repeat([]byte{0xa7}, 32))
	leaks  = []string{"a7", "A7", "167", "247", "\xa7", "p6en", "10100111"}
)

// holders are all that may stand around a secret and reach a log or an error.
func holders() map[string]any {
	type holder struct {
		Name   string
		Secret keys.Secret
		Data   keys.DataKey
		Hidden *keys.Secret
	}
	data := keys.DataKey{Key: marked, IV: [12]byte(marked[:12])}
	input := keys.Input{Chain: marked, X25519: marked[:], MLKEM: marked[:], PSK: &marked, TH: [32]byte(marked)}
	h := holder{"name", marked, data, &marked}
	return map[string]any{
		"secret":            marked,
		"pointer to secret": &marked,
		"data key":          data,
		"pointer to key":    &data,
		"input":             input,
		"pointer to input":  &input,
		"material":          keys.Material{Chain: marked},
		"pointer material":  &keys.Material{Chain: marked},
		"struct":            h,
		"pointer to struct": &h,
		"slice":             []keys.Secret{marked},
		"array":             [1]keys.Secret{marked},
		"map":               map[string]keys.Secret{"key": marked},
		"interface":         []any{marked, &marked},
		"identity":          keys.NewIdentity(&marked),
		"identity value":    *keys.NewIdentity(&marked),
	}
}

func noLeak(t *testing.T, route, text string) {
	t.Helper()
	text = strings.NewReplacer(keys.NewIdentity(&marked).Public().String(), "").Replace(text)
	for _, leak := range leaks {
		// A pointer's address may have any digits; a leak shows the byte again and again.
		if strings.Count(text, leak) > 3 || leak == "\xa7" && strings.Contains(text, leak) {
			t.Errorf("%s shows the secret: %q", route, text)
			return
		}
	}
}

// noVerb is a variable so that go vet does not see the mistake that is tested.
var noVerb = "nothing"

func TestNoVerbOfFmtShowsASecret(t *testing.T) {
	verbs := []string{"%v", "%+v", "%#v", "%x", "%X", "% x", "%#x", "%s", "%q", "%d", "%o", "%b", "%c", "%U", "%e", "%g", "%t", "%08.3v", "%!"}
	for name, value := range holders() {
		for _, verb := range verbs {
			noLeak(t, name+" by "+verb, fmt.Sprintf(verb, value))
		}
		noLeak(t, name+" by Sprint", fmt.Sprint(value))
		noLeak(t, name+" by Sprintln", fmt.Sprintln(value))
		noLeak(t, name+" as an extra argument", fmt.Sprintf(noVerb, value))
		noLeak(t, name+" in an error", fmt.Errorf("open: %v", value).Error())
	}
}

func TestAPointerInAnUnexportedFieldPrintsAsAnAddress(t *testing.T) {
	holder := struct{ hidden *keys.Secret }{&marked}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d"} {
		noLeak(t, verb, fmt.Sprintf(verb, holder))
		noLeak(t, verb, fmt.Sprintf(verb, &holder))
	}
}

func TestNoHandlerOfSlogShowsASecret(t *testing.T) {
	for name, value := range holders() {
		var text, structured bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("test", "key", value, slog.Group("group", "key", value))
		slog.New(slog.NewJSONHandler(&structured, nil)).Info("test", "key", value, slog.Group("group", "key", value))
		noLeak(t, name+" by the text handler", text.String())
		noLeak(t, name+" by the JSON handler", structured.String())
	}
}

func TestNoEncoderShowsASecret(t *testing.T) {
	encoders := map[string]func(any) ([]byte, error){
		"JSON": json.Marshal,
		"XML":  xml.Marshal,
		"CBOR": cbor.Marshal,
		"gob": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
	}
	for name, value := range holders() {
		for encoder, encode := range encoders {
			encoded, err := encode(value)
			noLeak(t, name+" by "+encoder, string(encoded))
			noLeak(t, name+" by an error of "+encoder, fmt.Sprint(err))
		}
	}
}

func TestASecretPrintsAsTheWordSecret(t *testing.T) {
	encoded, err := json.Marshal(map[string]any{"psk": marked, "data": keys.DataKey{Key: marked}})
	if err != nil || string(encoded) != `{"data":"[secret]","psk":"[secret]"}` {
		t.Errorf("JSON = %s, %v", encoded, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		if got := fmt.Sprintf(verb, marked); got != "[secret]" {
			t.Errorf("%s = %q, want [secret]", verb, got)
		}
	}
	if marked.String() != "[secret]" || marked.GoString() != "[secret]" {
		t.Errorf("String, GoString = %q, %q", marked.String(), marked.GoString())
	}
	if got := fmt.Sprintf("%v", struct{ S keys.Secret }{marked}); got != "{[secret]}" {
		t.Errorf("in a struct = %q", got)
	}
}

func TestSecretSurvivesItsTextForm(t *testing.T) {
	text := marked.Encode()
	if want := "p6enp6enp6enp6enp6enp6enp6enp6enp6enp6enp6c=\n"; string(text) != want {
		t.Errorf("Encode = %q, want %q", text, want)
	}
	for _, around := range []string{"%s", "  %s", "\t%s\r\n\n", "%s "} {
		got, err := keys.ParseSecret(fmt.Appendf(nil, around, text))
		if err != nil || !got.Equal(&marked) {
			t.Errorf("ParseSecret of %q: %v", around, err)
		}
	}
}

func TestParseSecretRefuses(t *testing.T) {
	good := strings.TrimSpace(string(marked.Encode()))
	tests := map[string]struct {
		text string
		want error
	}{
		"nothing":               {"", keys.ErrKeyText},
		"space":                 {" \n", keys.ErrKeyText},
		"31 bytes":              {"p6enp6enp6enp6enp6enp6enp6enp6enp6enp6enpw==", keys.ErrKeyText},
		"33 bytes":              {"p6enp6enp6enp6enp6enp6enp6enp6enp6enp6enp6en", keys.ErrKeyText},
		"a passphrase":          {"correct horse battery staple", keys.ErrKeyText},
		"hexadecimal":           {strings.Repeat("a7", 32), keys.ErrKeyText},
		"no padding":            {strings.TrimSuffix(good, "="), keys.ErrKeyText},
		"the other alphabet":    {"-" + good[1:], keys.ErrKeyText},
		"bits after the end":    {good[:42] + "d=", keys.ErrKeyText},
		"two keys":              {good + "\n" + good, keys.ErrKeyText},
		"a line break within":   {good[:20] + "\n" + good[21:], keys.ErrKeyText},
		"a line break too many": {good[:20] + "\n" + good[20:], keys.ErrKeyText},
		"32 zero bytes":         {strings.Repeat("A", 43) + "=", keys.ErrKeyZero},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := keys.ParseSecret([]byte(tt.text))
			if !errors.Is(err, tt.want) || !got.IsZero() {
				t.Errorf("ParseSecret error = %v, want %v", err, tt.want)
			}
			if want := "parse secret: " + tt.want.Error(); fmt.Sprint(err) != want {
				t.Errorf("error text = %q, want %q and no part of the key", err, want)
			}
		})
	}
}

func TestGeneratedSecretsDiffer(t *testing.T) {
	a, b := keys.GenerateSecret(), keys.GenerateSecret()
	if a.Equal(&b) || a.IsZero() || b.IsZero() {
		t.Error("equal or zero")
	}
}

func TestWipeLeavesZeros(t *testing.T) {
	s, d := marked, keys.DataKey{Key: marked, IV: [12]byte(marked[:12])}
	s.Wipe()
	d.Wipe()
	if !s.IsZero() || d != (keys.DataKey{}) {
		t.Error("something is left")
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(marked.Encode())
	f.Add([]byte(strings.Repeat("A", 43) + "="))
	f.Add([]byte("p6en"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := keys.ParseSecret(text)
		if err != nil {
			return
		}
		if got := bytes.TrimSpace(s.Encode()); !bytes.Equal(got, bytes.TrimSpace(text)) {
			t.Errorf("Encode = %q, parsed from %q", got, text)
		}
	})
}
