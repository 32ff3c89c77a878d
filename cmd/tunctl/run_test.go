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
