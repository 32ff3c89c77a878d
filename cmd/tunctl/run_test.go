package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/internal/keys"
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

// A script that has nothing to give to "tunctl pubkey", such as one that runs by ssh or cron,
// wants this node's key, as who types it does. It is told so: the key may have been lost.
func TestNothingOnInputIsThisNodesKey(t *testing.T) {
	dir := t.TempDir()
	secret := keys.GenerateSecret()
	want := keys.NewIdentity(&secret).Public().String() + "\n"
	file := filepath.Join(dir, "tund.toml")
	for name, content := range map[string][]byte{"private.key": secret.Encode(), "tund.toml": []byte("[node]\nprivate_key_file = \"private.key\"\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	if err := p.pubkey(file); err != nil || stdout.String() != want || !strings.Contains(stderr.String(), "this node's") {
		t.Errorf("%v, prints %q, want %q; says %q", err, stdout.String(), want, stderr.String())
	}
	stdout.Reset()
	p.stdin = strings.NewReader("\n")
	if err := p.pubkey(file); err == nil || stdout.Len() != 0 {
		t.Errorf("an empty line: %v, prints %q", err, stdout.String())
	}
}
