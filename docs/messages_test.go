package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"tund/internal/session"
)

// catalogue is one value of each message of the session, in the order of their numbers.
var catalogue = []session.Message{
	session.Hello{},
	session.Rekey{},
	session.RekeyReply{},
	session.RekeyDone{},
	session.Reiv{},
	session.ReivReply{},
	session.ReivDone{},
	session.Abort{},
	session.Ping{},
	session.Pong{},
	session.Shutdown{},
	session.Close{},
}

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocumentedMessagesAreThoseOfTheCode(t *testing.T) {
	vectors := map[string]*vector{}
	for _, v := range readVectors(t) {
		vectors[v.name] = v
	}
	messages := vectors["messages"]
	if len(messages.values) != len(catalogue) {
		t.Errorf("%d messages in the document, %d in the catalogue", len(messages.values), len(catalogue))
	}
	for _, want := range catalogue {
		name := want.Type().String()
		m, err := session.Decode(messages.get(name))
		if err != nil || m.Type() != want.Type() {
			t.Errorf("%s: Decode = %+v, %v", name, m, err)
			continue
		}
		encoded, err := session.Encode(m)
		if err != nil {
			t.Errorf("%s: Encode: %v", name, err)
		}
		messages.is(name, encoded)
	}
	messages.is("HELLO", vectors["transcript"].get("hello_dialler"))
	messages.is("REKEY", vectors["transcript"].get("rekey"))
	reply := messages.get("REKEY_REPLY")
	for _, part := range [][]byte{vectors["transcript"].get("reply_body"), vectors["derive epoch 1, no pre-shared key"].get("tag_listener")} {
		if !bytes.Contains(reply, part) {
			t.Errorf("REKEY_REPLY does not hold %.8x…", part)
		}
	}
}

// row is a line of a table of keys: | 1 | name | type | meaning |.
var row = regexp.MustCompile(`(?m)^\| (\d+) \| ([a-z0-9 ]+) \| (\S+) \| .+ \|$`)

func TestDocumentedFieldsAreThoseOfTheCode(t *testing.T) {
	text := document(t)
	tables := map[string]any{"body of REKEY_REPLY": session.ReplyBody{}}
	for _, m := range catalogue {
		tables[fmt.Sprintf("%s (%d)", m.Type(), m.Type())] = m
	}
	for head, message := range tables {
		_, section, found := strings.Cut(text, "\n#### "+head+"\n")
		if !found {
			t.Errorf("no section %q", head)
			continue
		}
		section, _, _ = strings.Cut(section, "\n#")
		checkFields(t, head, row.FindAllStringSubmatch(section, -1), reflect.TypeOf(message))
	}
}

func checkFields(t *testing.T, head string, rows [][]string, message reflect.Type) {
	t.Helper()
	if len(rows) != message.NumField() {
		t.Errorf("%s: %d fields in the document, %d in the code", head, len(rows), message.NumField())
		return
	}
	for i, cells := range rows {
		field := message.Field(i)
		key, _, _ := strings.Cut(field.Tag.Get("cbor"), ",")
		name := strings.ToLower(field.Name)
		if cells[1] != key || strings.ReplaceAll(cells[2], " ", "") != name || !fits(cells[3], field.Type) {
			t.Errorf("%s: document has key %s, %s, %s; code has key %s, %s, %s", head, cells[1], cells[2], cells[3], key, name, field.Type)
		}
	}
}

// fits says whether a Go type can hold the type that the document names.
func fits(documented string, code reflect.Type) bool {
	kinds := map[reflect.Kind]string{
		reflect.Bool: "bool", reflect.String: "text", reflect.Int: "uint16", // bounded by a check
		reflect.Uint8: "uint8", reflect.Uint16: "uint16", reflect.Uint32: "uint32",
	}
	switch code.Kind() {
	case reflect.Array:
		return documented == fmt.Sprintf("bytes(%d)", code.Len())
	case reflect.Slice:
		if code.Elem().Kind() == reflect.Uint8 {
			return strings.HasPrefix(documented, "bytes")
		}
		return documented == "["+kinds[code.Elem().Kind()]+"]"
	default:
		return documented == kinds[code.Kind()]
	}
}

// reason is a line of a table of codes: | 1 | name | why |.
var reason = regexp.MustCompile(`(?m)^\| (\d+) \| ([a-z-]+) \| [^|]+ \|$`)

func TestDocumentedCodesAreThoseOfTheCode(t *testing.T) {
	tests := map[string]func(number int) string{
		"### 8.2 CLOSE":         func(n int) string { return session.CloseCode(n).String() },
		"### 8.3 ABORT reasons": func(n int) string { return session.AbortReason(n).String() },
	}
	for head, name := range tests {
		_, section, _ := strings.Cut(document(t), "\n"+head+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		rows := reason.FindAllStringSubmatch(section, -1)
		for i, cells := range rows {
			if cells[1] != fmt.Sprint(i+1) || cells[2] != name(i+1) {
				t.Errorf("%s: document has %s %s, code has %d %s", head, cells[1], cells[2], i+1, name(i+1))
			}
		}
		if beyond := name(len(rows) + 1); !strings.Contains(beyond, " ") {
			t.Errorf("%s: %s is not in the document", head, beyond)
		}
	}
}
