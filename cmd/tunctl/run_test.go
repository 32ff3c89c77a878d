package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	for _, args := range [][]string{{"version"}, {"version", "--json"}} {
		var stderr bytes.Buffer
		args = append([]string{"--socket", t.TempDir() + "/none"}, args...)
		if status := run(args, strings.NewReader(""), full, &stderr); status != exitFailed || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: exit status %d, says %q", args, status, stderr.String())
		}
	}
}

// Whoever types "tunctl pubkey" wants this node's key; a script that feeds it a key
// wants that one's.
func TestInputIsWhatCanHoldAKey(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	if isInput(terminal) {
		t.Error("a terminal is taken for input")
	}
	if isInput(null) || !isInput(file) || !isInput(strings.NewReader("")) {
		t.Errorf("/dev/null %v, a file %v, a reader %v", isInput(null), isInput(file), isInput(strings.NewReader("")))
	}
}
