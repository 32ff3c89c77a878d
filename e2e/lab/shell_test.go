package lab

import (
	"errors"
	"os/exec"
	"testing"
	"time"
)

func TestShellTellsWhatACommandLeft(t *testing.T) {
	cmd := exec.Command("sh")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := NewShell(input, output)
	for command, want := range map[string]struct {
		output string
		code   int
	}{"echo one; echo two >&2": {"one\ntwo", 0}, "echo three; (exit 3)": {"three", 3}, "cat": {"", 0}} {
		output, code, err := s.Do(10*time.Second, command)
		if output != want.output || code != want.code || err != nil {
			t.Errorf("%s: %q, %d, %v", command, output, code, err)
		}
	}
	if _, _, err := s.Do(10*time.Second, "exit"); !errors.Is(err, ErrShellEnded) {
		t.Errorf("after its end: %v", err)
	}
	s.Drain()
	_ = cmd.Wait() // it ended as it was told
}
