package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// The demonstration itself, with less to move.
func TestDemonstrationSeesWhatItShould(t *testing.T) {
	t.Parallel()
	if missing := lab.Need(); missing != "" {
		t.Skip(missing)
	}
	programs, err := lab.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &act{show: &show{ctx: t.Context(), out: &out, start: time.Now()}, programs: programs, bytes: 16 << 20}
	problems := a.run(a.play)
	a.summary(problems)
	if len(problems) > 0 || !a.complete || !strings.Contains(out.String(), "everything was as it should be") {
		t.Errorf("%v\n%s", problems, &out)
	}
}

// Whatever is not as it should be ends in the summary, what is fatal ends the scenario, and
// what was made is removed, last first.
func TestProblemsAreSummedUpAndAllIsCleanedUp(t *testing.T) {
	var out bytes.Buffer
	var cleaned []int
	s := &show{ctx: context.Background(), out: &out, start: time.Now()}
	problems := s.run(func(*show) {
		s.Cleanup(func() { cleaned = append(cleaned, 1) })
		s.Cleanup(func() { cleaned = append(cleaned, 2); s.Errorf("left behind: %d", 7) })
		s.check(true, "fine")
		s.check(false, "%d packets lost", 3)
		s.Fatalf("no tunnel")
		t.Error("the scenario goes on after what is fatal")
	})
	if want := []string{"3 packets lost", "no tunnel", "left behind: 7"}; !slices.Equal(problems, want) {
		t.Errorf("problems %q, want %q", problems, want)
	}
	if !slices.Equal(cleaned, []int{2, 1}) {
		t.Errorf("cleaned up %v", cleaned)
	}
	a := &act{show: s}
	a.summary(problems)
	if text := out.String(); strings.Contains(text, "everything was") || strings.Count(text, "not as it should be:") != len(problems) {
		t.Errorf("the summary:\n%s", text)
	}
}

func TestDemonstrationWithoutProgramsFails(t *testing.T) {
	if err := demonstrate(t.TempDir(), 1); err == nil {
		t.Error("it succeeded")
	}
}
