package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// show is one run of the demonstration: what a test is to the lab (lab.TB), with
// output for people. Cleanup must be called from the scenario's goroutine only.
type show struct {
	ctx    context.Context
	out    io.Writer
	colour bool
	start  time.Time

	mu       sync.Mutex
	problems []string
	cleanups []func()
}

// newShow returns a run that ends when ctx does.
func newShow(ctx context.Context, out *os.File) *show {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	return &show{ctx: ctx, out: out, colour: err == nil && os.Getenv("NO_COLOR") == "", start: time.Now()}
}

// run plays a scenario, cleans up after it whatever happened, and returns the problems.
func (s *show) run(scenario func(*show)) []string {
	s.inGoroutine(func() { scenario(s) })
	for len(s.cleanups) > 0 {
		last := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		s.inGoroutine(last)
	}
	return s.problems
}

// inGoroutine runs f where Fatalf may end it, and waits for it.
func (s *show) inGoroutine(f func()) {
	done := make(chan struct{})
	go func() { // ends with f, or by Fatalf
		defer close(done)
		f()
	}()
	<-done
}

// step announces what happens next.
func (s *show) step(format string, args ...any) {
	s.print("\n"+s.paint("1;36", "== ")+s.paint("1", format)+"\n", args...)
}

// seen says what was observed.
func (s *show) seen(format string, args ...any) {
	s.print("   "+format+"\n", args...)
}

// quote prints the output of a program, or a file.
func (s *show) quote(text string) {
	for line := range strings.Lines(text) {
		s.print("%s", s.paint("2", "   | ")+strings.TrimRight(line, "\n")+"\n")
	}
}

// check says what was observed and notes a problem unless it is as it should be.
func (s *show) check(ok bool, format string, args ...any) {
	if ok {
		s.print("   "+s.paint("32", "ok")+"  "+format+"\n", args...)
		return
	}
	s.Errorf(format, args...)
}

func (s *show) print(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = fmt.Fprintf(s.out, format, args...) // nobody reads it: nothing is to be done
}

func (s *show) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// Helper is part of lab.TB; lines are not reported here.
func (s *show) Helper() {}

// Context ends when the demonstration is interrupted.
func (s *show) Context() context.Context { return s.ctx }

// Logf prints a note.
func (s *show) Logf(format string, args ...any) { s.seen(format, args...) }

// Errorf notes a problem and goes on.
func (s *show) Errorf(format string, args ...any) {
	s.print("   "+s.paint("1;31", "NOT AS IT SHOULD BE")+"  "+format+"\n", args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// Fatalf notes a problem and ends the scenario.
func (s *show) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}

// Failed reports whether there was a problem.
func (s *show) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.problems) > 0
}

// Cleanup has a function called at the end, last first.
func (s *show) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }
