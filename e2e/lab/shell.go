package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrShellEnded is what a Shell returns when nothing can be said to it any more.
var ErrShellEnded = errors.New("shell has ended")

// Shell is a shell somewhere else, of which only input and output are here. It is for one
// goroutine.
type Shell struct {
	input io.Writer
	lines chan string // closed when the output has ended
	said  int
}

// NewShell returns the shell that reads what is written to input, and writes to output. Its
// reader ends with the output, which somebody must end.
func NewShell(input io.Writer, output io.Reader) *Shell {
	s := &Shell{input: input, lines: make(chan string, 1000)} // what came unasked waits here
	go func() {
		defer close(s.lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	return s
}

// Do has the shell run a command and returns what it printed on both outputs, and its exit
// status. An error says that the shell has not come to the end of it within the limit, and is
// of no more use.
func (s *Shell) Do(limit time.Duration, command string) (output string, code int, err error) {
	s.said++
	mark := fmt.Sprintf("answer %d: ", s.said)
	if _, err := fmt.Fprintf(s.input, "{ %s\n} 2>&1 </dev/null; status=$?; echo; echo %q$status\n", command, mark); err != nil {
		return "", 0, err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var text strings.Builder
	for {
		select {
		case line, open := <-s.lines:
			if !open {
				return text.String(), 0, ErrShellEnded
			}
			if status, done := strings.CutPrefix(line, mark); done {
				_, err := fmt.Sscan(status, &code)
				return strings.TrimSpace(text.String()), code, err
			}
			text.WriteString(line + "\n")
		case <-timer.C:
			return text.String(), 0, fmt.Errorf("no end within %v", limit)
		}
	}
}

// Drain waits until the output has ended.
func (s *Shell) Drain() {
	for range s.lines { // what nobody asked for
	}
}
