package ctl

import (
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func TestOneLineHoldsNothingThatMovesTheCursor(t *testing.T) {
	tests := map[string]string{
		"":                           "",
		"plain text, with ünïcödé 🚇": "plain text, with ünïcödé 🚇",
		"two\nlines":                 "two; lines",
		"\n\nthree\r\n\r\nlines\n":   "three; lines",
		"a\ttab":                     "a tab",
		"\x1b[31mred\x1b[0m":         "\ufffd[31mred\ufffd[0m",
		"bell\a nul\x00 del\x7f":     "bell\ufffd nul\ufffd del\ufffd",
		"next\u0085line\u2028sep":    "next\ufffdline\ufffdsep",
		"right\u202eto left":         "right\ufffdto left",
		"not utf-8 \xff":             "not utf-8 \ufffd",
	}
	for text, want := range tests {
		if got := OneLine(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\nb\x1b")
	f.Fuzz(func(t *testing.T, text string) {
		got := OneLine(text)
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) && r != unicode.ReplacementChar }) {
			t.Errorf("%q", got)
		}
		if again := OneLine(got); again != got {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}

// spoil puts a line break and a control sequence into every text of v, making up what
// lists and pointers hold.
func spoil(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("a\nb\x1b[2J")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		spoil(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		spoil(v.Index(1))
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				spoil(f)
			}
		}
	default:
	}
}

// texts returns all texts in v.
func texts(v reflect.Value) []string {
	var all []string
	switch v.Kind() {
	case reflect.String:
		all = append(all, v.String())
	case reflect.Pointer:
		all = append(all, texts(v.Elem())...)
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, texts(v.Index(i))...)
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				all = append(all, texts(f)...)
			}
		}
	default:
	}
	return all
}

func TestNoFieldOfAnyReplyHoldsALineBreak(t *testing.T) {
	for _, r := range []reply{
		&Version{}, &Status{}, &Rotation{}, &UpResult{}, &DownResult{}, &ReloadResult{}, &RestartBegun{}, &StopKindResult{}, &ErrorReply{},
	} {
		v := reflect.ValueOf(r).Elem()
		spoil(v)
		before := len(texts(v))
		tidy(v)
		after := texts(v)
		if len(after) != before || before == 0 && v.NumField() > 2 {
			t.Errorf("%T: %d texts, then %d", r, before, len(after))
		}
		for _, text := range after {
			if text != "" && text != "a; b\ufffd[2J" {
				t.Errorf("%T: %q", r, text)
			}
		}
	}
}

func TestTidyLeavesWhatBelongsToTheBackend(t *testing.T) {
	took := &Takeover{Reason: "a\nb"}
	peers := []PeerStatus{{LastError: "a\nb", Takeover: took, Offload: []string{"a\nb"}}}
	status := Status{Peers: peers}
	tidy(reflect.ValueOf(&status).Elem())
	if took.Reason != "a\nb" || peers[0].LastError != "a\nb" || peers[0].Offload[0] != "a\nb" {
		t.Error("it has changed")
	}
	if p := status.Peers[0]; p.Takeover.Reason != "a; b" || p.LastError != "a; b" || p.Offload[0] != "a; b" {
		t.Errorf("%+v", p)
	}
}

// A client trusts nobody who answers on the socket with the terminal.
func TestClientTidiesWhatItIsAnswered(t *testing.T) {
	path := t.TempDir() + "/s"
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"schema":1,"error":{"code":"state","message":"a\nb\u001b[2J"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"schema":1,"node":{"name":"a\nb\u001b[2J"}}`)
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }() // ends with Close
	defer func() { _ = errors.Join(server.Close(), <-done) }()
	client := NewClient(path, 0)
	status, err := client.Status(t.Context())
	if err != nil || status.Node.Name != "a; b\ufffd[2J" {
		t.Errorf("%q, %v", status.Node.Name, err)
	}
	if _, err := client.Up(t.Context(), "beta"); err == nil || err.Error() != "a; b\ufffd[2J" {
		t.Errorf("%v", err)
	}
}
