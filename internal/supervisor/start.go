package supervisor

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"tund/internal/pipe"
)

// queueSize is how many messages may wait for a child. One that reads never has more than a few.
const queueSize = 256

// start starts the process of one child and makes, but does not start, what looks after it.
func (s *Supervisor) start(number uint64) (*child, error) {
	fromParent, toChild, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	fromChild, toParent, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe: %w", err), fromParent.Close(), toChild.Close())
	}
	said, stderr, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe: %w", err), fromParent.Close(), toChild.Close(), fromChild.Close(), toParent.Close())
	}
	cmd := s.o.Command(s.o.Name)
	cmd.ExtraFiles = []*os.File{fromParent, toParent, s.o.Device, s.o.Socket} // from descriptor pipe.FDIn on
	cmd.Dir = "/"
	cmd.Env = environment(os.LookupEnv)
	if s.o.Environment != nil {
		cmd.Env = append(cmd.Env, s.o.Environment()...)
	}
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's ^C is the parent's business
	err = errors.Join(cmd.Start(), fromParent.Close(), toParent.Close(), stderr.Close())
	if err != nil {
		return nil, errors.Join(err, toChild.Close(), fromChild.Close(), said.Close())
	}
	threads, err := newCensus(cmd.Process.Pid)
	if err != nil {
		s.o.Log.Warn("threads of a child are not counted", "child", number, "err", err)
	}
	return &child{
		threads:  threads,
		s:        s,
		number:   number,
		cmd:      cmd,
		in:       toChild,
		out:      fromChild,
		said:     said,
		conn:     pipe.NewConn(fromChild, toChild, pipe.Parent),
		queue:    make(chan pipe.Message, queueSize),
		received: make(chan pipe.Message),
		exited:   make(chan exit, 1),
		broken:   make(chan error, 1),
		done:     make(chan struct{}),
	}, nil
}

// environment is all that a child gets: how its runtime behaves. Among others, NOTIFY_SOCKET, WATCHDOG_* and LISTEN_* are the parent's.
func environment(lookup func(string) (string, bool)) []string {
	env := []string{
		// Hardly anything is allocated, so garbage is collected only near a limit. That
		// also keeps the runtime from opening descriptors; see package sandbox.
		"GOGC=off",
		"GOMEMLIMIT=16MiB",
		"GOMAXPROCS=3", // one for each direction, which keeps it (package await), and one for the rest
		// Or the runtime keeps a cgroup's files open. Its preemption by signals stays: a wait
		// that keeps its P gives way when it is asked to, not when a packet is there.
		"GODEBUG=containermaxprocs=0",
	}
	// GORACE matters to programs built with the race detector, whose exit would else take a
	// second: half of the time that there is to hand over.
	for _, name := range []string{"GORACE", "GOTRACEBACK"} {
		if value, ok := lookup(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
