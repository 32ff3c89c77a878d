// Package mantest keeps man pages true. A page of docs/man is written by hand, but for the
// parts between two comments,
//
//	.\" begin NAME
//	.\" end NAME
//
// which a test of the program that the page is about makes from the program itself:
// commands and flags from cobra, keys from the schema. The test fails where the page
// differs, and writes the parts anew with -update. Only tests import this.
package mantest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// Check compares the made parts of a page with what they should be, or, with update,
// writes them. There must be no other made parts in the page.
func Check(t *testing.T, page string, update bool, parts map[string]string) {
	t.Helper()
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(old)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if text, err = replace(text, name, parts[name]); err != nil {
			t.Fatalf("%s: %v", page, err)
		}
	}
	if n := strings.Count(text, `.\" begin `); n != len(parts) {
		t.Errorf("%s has %d made parts, want %d", page, n, len(parts))
	}
	if text == string(old) {
		return
	}
	if !update {
		t.Fatalf("%s differs from the program; to write it anew: go test -run Page -update, here\n%s", page, text)
	}
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace puts text between the comments that begin and end a part.
func replace(page, name, text string) (string, error) {
	begin, end := `.\" begin `+name+"\n", `.\" end `+name+"\n"
	before, rest, found := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("no part %s", name)
	}
	return before + begin + text + end + after, nil
}
