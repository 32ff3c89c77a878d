package system

import (
	"time"

	"tund/e2e/lab"
)

// Session is a shell on one machine that was opened from another, by SSH, and stays open.
type Session struct {
	from  *Machine
	shell *lab.Shell
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
	s := &Session{from: m, shell: lab.NewShell(input, output)} // ends with ssh, which ends with its input or its machine
	t.Cleanup(func() {
		_ = input.Close()
		_ = cmd.Process.Kill()
		s.shell.Drain()
		_ = cmd.Wait() // it was killed
	})
	s.Run(lab.Patience, "true")
	return s
}

// Run has the shell run a command, which must succeed within the limit, and returns what it
// printed.
func (s *Session) Run(limit time.Duration, command string) string {
	t := s.from.fleet.t
	t.Helper()
	output, code, err := s.shell.Do(limit, command)
	if err != nil || code != 0 {
		t.Fatalf("session from %s: %s: %v, exit %d:\n%s", s.from.Name, command, err, code, output)
	}
	return output
}
