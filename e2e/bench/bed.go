package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tund/e2e/lab"
)

const (
	// startLimit bounds how long a tunnel may take until the first ping is answered. Where the
	// first greeting is lost fastd waits 20 s for the next one.
	startLimit = 50 * time.Second
	// endLimit is how long a program may take to end after SIGTERM.
	endLimit = 3 * time.Second
	// serverPort is where iperf3 listens.
	serverPort = 5201
)

// bed is the two hosts, the wire between them, and what runs there at the moment.
type bed struct {
	stage     *stage
	pair      *lab.Pair
	rivals    string // directory of the programs that no package has
	processes []*process
	server    *process // iperf3 on beta
}

// process is a running program with its output in a file.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it has ended
}

// newBed makes the hosts and the wire; a failure is fatal.
func newBed(st *stage, programs lab.Binaries, s settings) *bed {
	rivals, err := filepath.Abs(s.rivals)
	if err != nil {
		st.Fatalf("%v", err)
	}
	b := &bed{stage: st, pair: lab.NewPair(st, programs, lab.PairOptions{}), rivals: rivals}
	st.Cleanup(func() {
		if err := b.endAll(); err != nil {
			st.Errorf("%v", err)
		}
	})
	return b
}

// up starts a system, waits until a ping is answered, and starts iperf3 on beta.
func (b *bed) up(s system) error {
	if err := s.start(b); err != nil {
		return err
	}
	if err := b.await(startLimit, "an answer to a ping", func() bool {
		return b.pair.Alpha.Run("ping", "-q", "-c", "1", "-W", "1", s.address(b)) == nil
	}); err != nil {
		return err
	}
	select {
	case <-time.After(s.settle):
	case <-b.stage.ctx.Done():
		return b.stage.ctx.Err()
	}
	return b.serve()
}

// down ends a system and whatever else runs, and tells what is left behind.
func (b *bed) down(s system) error {
	err := b.endAll()
	if s.stop != nil {
		err = errors.Join(err, s.stop(b))
	}
	for _, n := range []*lab.Node{b.pair.Alpha, b.pair.Beta} {
		if left := n.Leftovers(2 * time.Second); len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("left behind on %s: %s", n.Name, strings.Join(left, ", ")))
		}
	}
	return err
}

// serve starts iperf3 on beta, anew if it runs.
func (b *bed) serve() error {
	if b.server != nil {
		if err := b.server.end(); err != nil {
			return err
		}
		b.processes = slices.DeleteFunc(b.processes, func(p *process) bool { return p == b.server })
	}
	server, err := b.run(b.pair.Beta, "iperf3", "-s", "-p", fmt.Sprint(serverPort))
	if err != nil {
		return err
	}
	b.server = server
	return b.await(5*time.Second, "iperf3 listens", func() bool { return lab.Listens(server.cmd.Process.Pid, serverPort) })
}

// run starts a program on a node; endAll ends it.
func (b *bed) run(n *lab.Node, name string, args ...string) (*process, error) {
	p := &process{log: n.Path(filepath.Base(name) + ".log"), cmd: n.Command(name, args...), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, n.Dir
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends when the program does
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended does not matter
	}()
	b.processes = append(b.processes, p)
	return p, nil
}

// runBoth starts a program on both nodes, with the arguments that args makes for each.
func (b *bed) runBoth(name string, args func(side) []string) error {
	for _, s := range b.sides() {
		if _, err := b.run(s.node, name, args(s)...); err != nil {
			return err
		}
	}
	return nil
}

// endAll ends all programs that run.
func (b *bed) endAll() error {
	var err error
	for _, p := range b.processes {
		err = errors.Join(err, p.end())
	}
	b.processes, b.server = nil, nil
	return err
}

// end ends the program, by force if it does not listen.
func (p *process) end() error {
	if p.over() {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(endLimit)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	return fmt.Errorf("%s had to be killed", filepath.Base(p.log))
}

// over reports whether the program has ended.
func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// await asks until condition holds, or a program has ended, which is an error.
func (b *bed) await(limit time.Duration, what string, condition func() bool) error {
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		for _, p := range b.processes {
			if p.over() && p != b.server {
				return fmt.Errorf("%s: ended: %s", filepath.Base(p.log), p.tail())
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s%s", limit, what, b.tails())
		}
		select {
		case <-ticker.C:
		case <-b.stage.ctx.Done():
			return b.stage.ctx.Err()
		}
	}
	return nil
}

// tails returns the last words of all programs.
func (b *bed) tails() string {
	text := &strings.Builder{}
	for _, p := range b.processes {
		text.WriteString("; " + p.tail())
	}
	return text.String()
}

// tail returns the last lines of what the program printed, as one.
func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " / ")
}
