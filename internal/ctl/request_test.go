package ctl

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestNearestSuggestsOnlyWhatIsNear(t *testing.T) {
	names := []string{"alpha", "beta", "gamma", "x"}
	for typed, want := range map[string]string{
		"bta": "beta", "btea": "beta", "alfa": "alpha", "gamma": "gamma", "Beta": "beta",
		"delta": "beta", "berlin": "", "": "", "y": "",
	} {
		if got := Nearest(typed, names); got != want {
			t.Errorf("%q: got %q, want %q", typed, got, want)
		}
	}
}

func TestEveryCodeHasAStatusOfAnError(t *testing.T) {
	for code, status := range statuses() {
		if status < 400 || status > 599 {
			t.Errorf("%s: %d", code, status)
		}
	}
	if got := (&Error{Code: "of a later version"}).Status(); got != 500 {
		t.Errorf("unknown code: %d", got)
	}
}

func FuzzRequestBody(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"peers":["alpha"]}`, `{"peers":["alpha","beta"]}`, `{"peers":[]}`, `{"peers":null}`,
		`{"peers":["a"],"peers":["b"]}`, `{"Peers":["a"]}`, `{"peers":["a"]} x`, `[]`, `{"peers":[1]}`, `{"peers":[null]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var first, second rotateRequest
		if decodeBody(body, &first) != nil {
			return
		}
		if first.Peers == nil {
			return // an empty body or object, which has no other form
		}
		text, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeBody(text, &second); err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("%q became %q: %v", body, text, err)
		}
	})
}
