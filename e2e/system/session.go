package system

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// Session is a shell on one machine that was opened from another, by SSH, and stays open.
type Session struct {
	from  *Machine
	input io.WriteCloser
	lines chan string // closed when the shell has ended
	said  int
}

// LogIn opens a session from the machine with the one that has an address.
func (m *Machine) LogIn(address string) *Session {
	t := m.fleet.t
	t.Helper()
	cmd := m.Inside("ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "root@"+address, "sh")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("machine %s: ssh: %v", m.Name, err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("machine %s: ssh: %v", m.Name, err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("machine %s: ssh: %v", m.Name, err)
	}
	s := &Session{from: m, input: input, lines: make(chan string, 1000)} // more than a command prints here
	go func() {                                                          // ends with ssh, which ends with its input or its machine
		defer close(s.lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = input.Close()
		_ = cmd.Process.Kill()
		for range s.lines { // until the reader ends
		}
		_ = cmd.Wait() // it was killed
	})
	s.Run(30*time.Second, "true")
	return s
}

// Run has the shell run a command, which must succeed within the limit, and returns what it
// printed.
func (s *Session) Run(limit time.Duration, command string) string {
	t := s.from.fleet.t
	t.Helper()
	s.said++
	mark := fmt.Sprintf("answer %d: ", s.said)
	if _, err := fmt.Fprintf(s.input, "{ %s\n} 2>&1 </dev/null; echo; echo %q$?\n", command, mark); err != nil {
		t.Fatalf("session from %s: %s: %v", s.from.Name, command, err)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	output := &strings.Builder{}
	for {
		select {
		case line, open := <-s.lines:
			code, done := strings.CutPrefix(line, mark)
			switch {
			case !open:
				t.Fatalf("session from %s ended in %s:\n%s", s.from.Name, command, output)
			case done && code == "0":
				return strings.TrimSpace(output.String())
			case done:
				t.Fatalf("session from %s: %s: exit %s:\n%s", s.from.Name, command, code, output)
			}
			fmt.Fprintln(output, line)
		case <-timer.C:
			t.Fatalf("session from %s: no end of %s within %v:\n%s", s.from.Name, command, limit, output)
		}
	}
}
