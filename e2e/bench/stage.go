package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"
)

// stage is what a test is to the lab (lab.TB). What fails within attempt is the error of
// that attempt alone; what fails elsewhere, such as the cleaning up, is a problem of the
// whole run. Cleanup must be called from one goroutine at a time.
type stage struct {
	ctx   context.Context
	out   io.Writer
	start time.Time

	mu       sync.Mutex
	fatal    string // why the current attempt ended, if it did
	problems []string
	cleanups []func()
}

// newStage returns a stage that ends when ctx does.
func newStage(ctx context.Context, out io.Writer) *stage {
	return &stage{ctx: ctx, out: out, start: time.Now()}
}

// run plays a scenario, cleans up after it whatever happened, and returns the problems.
func (s *stage) run(scenario func()) []string {
	s.must(scenario)
	for len(s.cleanups) > 0 {
		last := s.cleanups[len(s.cleanups)-1]
		s.cleanups = s.cleanups[:len(s.cleanups)-1]
		s.must(last)
	}
	return s.problems
}

// must runs f, whose failure is a problem of the whole run.
func (s *stage) must(f func()) {
	if err := s.attempt(func() error { f(); return nil }); err != nil {
		s.Errorf("%v", err)
	}
}

// attempt runs f where Fatalf may end it, and returns its error.
func (s *stage) attempt(f func() error) error {
	err := errEnded
	done := make(chan struct{})
	go func() { // ends with f, or by Fatalf
		defer close(done)
		err = f()
	}()
	<-done
	if errors.Is(err, errEnded) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return errors.New(s.fatal)
	}
	return err
}

// errEnded stands for an attempt that did not return.
var errEnded = errors.New("ended")

// say prints a line, with the time since the start.
func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := time.Since(s.start).Truncate(time.Second)
	_, _ = fmt.Fprintf(s.out, "%7v  %s\n", since, fmt.Sprintf(format, args...)) // nobody reads it: nothing is to be done
}

// Helper is part of lab.TB; lines are not reported here.
func (s *stage) Helper() {}

// Context ends when the run is interrupted.
func (s *stage) Context() context.Context { return s.ctx }

// Logf prints a note.
func (s *stage) Logf(format string, args ...any) { s.say(format, args...) }

// Errorf notes a problem and goes on.
func (s *stage) Errorf(format string, args ...any) {
	s.say("PROBLEM: "+format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// Fatalf ends the current attempt.
func (s *stage) Fatalf(format string, args ...any) {
	s.mu.Lock()
	s.fatal = fmt.Sprintf(format, args...)
	s.mu.Unlock()
	runtime.Goexit()
}

// Failed reports whether there was a problem.
func (s *stage) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.problems) > 0
}

// Cleanup has a function called at the end, last first.
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }
