package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"tund/internal/pipe"
	"tund/internal/sandbox"
)

var (
	// ErrGone is returned by Send for a child that is not running, or no longer.
	ErrGone = errors.New("child is gone")
	// ErrHung is returned by Send when the child has not read its messages for so
	// long that no more fit. It is killed.
	ErrHung = errors.New("child does not read its messages")
)

// Options are what a Supervisor needs. Log, Name, Configure and Events are required.
type Options struct {
	Log    *slog.Logger
	Name   string   // the peer's, seen in the process list
	Device *os.File // inherited by each child; they stay the owner's
	Socket *os.File

	// Command makes the command of one child; nil stands for DefaultCommand.
	Command func(name string) *exec.Cmd
	// Environment gives what a child's environment holds beside what all of them get;
	// nil: nothing. It is called by Run.
	Environment func() []string
	// Configure gives the first Configure of each child. It is called by Run.
	Configure func() pipe.Configure
	// Resume, if not nil, is what an earlier child has handed over. The first child of Run,
	// and no other, goes on from it. Run wipes it.
	Resume *State
	// Gate, if not nil, is shared with other supervisors: it bounds how many first children
	// start at a time.
	Gate *Gate
	// Heartbeat is the time between heartbeats: 0 stands for 10 s.
	Heartbeat time.Duration
	// Events receives what happens, in order. Run waits until each is taken.
	Events chan<- Event
}

// limits are the times after which a child counts as hung.
type limits struct {
	hello  time.Duration // from start to Configured
	answer time.Duration // to a heartbeat
	grace  time.Duration // to end after Stop, HandOver, SIGTERM, or after it closed its pipe
	grant  time.Duration // until real-time priority is taken back, not to hang by
}

var defaultLimits = limits{hello: 20 * time.Second, answer: 10 * time.Second, grace: 5 * time.Second, grant: grantLife}

const defaultHeartbeat = 10 * time.Second

// A Supervisor runs one peer's child at a time. Send and HandOver are safe for concurrent
// use with Run.
type Supervisor struct {
	o      Options
	limits limits

	leave   chan struct{} // closed by HandOver: the child's end is near
	hurry   chan struct{} // closed when HandOver has no time left
	ended   chan struct{} // closed when Run returns
	outcome outcome       // of HandOver; Run's until ended is closed
	entered func()        // to be called when the first child has started, or ended

	mu      sync.Mutex // guards what follows
	current *child     // takes messages; nil unless one is running
	moved   time.Time  // when Run last got on with something; zero: it does not run
	begun   bool       // Run was called
	leaving bool       // leave is closed
}

// New returns a Supervisor, which has not started anything yet.
func New(o Options) *Supervisor {
	if o.Command == nil {
		o.Command = DefaultCommand
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = defaultHeartbeat
	}
	return &Supervisor{
		o: o, limits: defaultLimits, outcome: outcome{err: ErrGone},
		leave: make(chan struct{}), hurry: make(chan struct{}), ended: make(chan struct{}),
	}
}

// DefaultCommand is the running program itself in the role of a child. The link in /proc
// stands for the file that runs, even where a package manager has put another in its place.
func DefaultCommand(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"tund", sandbox.RoleStart, name}
	return cmd
}

// Run starts a child, and the next one whenever it ends, until ctx is done. Then it stops
// the child in order (message Stop, 2 s, SIGTERM, 2 s, SIGKILL) and returns nil when it is
// gone; so it does after HandOver. It may be called once; after HandOver it does nothing.
func (s *Supervisor) Run(ctx context.Context) error {
	defer close(s.ended)
	if !s.begin() {
		return nil
	}
	defer s.rest()
	backoff := time.Duration(0)
	if !s.enter(ctx) {
		return nil
	}
	for number := uint64(1); ; number++ {
		s.moveOn()
		began := time.Now()
		pid, err := s.runChild(ctx, number)
		if ctx.Err() != nil || s.left() {
			return nil
		}
		if time.Since(began) >= healthy {
			backoff = 0
		}
		delay := jitter(backoff)
		backoff = nextBackoff(backoff)
		s.o.Log.Warn("child exited", "child", number, "pid", pid, "err", err, "restart_in", delay)
		s.emit(ctx, Event{Child: number, PID: pid, Body: Exited{Err: err, RestartIn: delay}})
		if !s.sleep(ctx, delay) {
			return nil
		}
	}
}

// enter waits at the gate. Where Run is to end meanwhile it reports false, and HandOver
// returns what no child has come to know.
func (s *Supervisor) enter(ctx context.Context) bool {
	if s.o.Gate.enter(ctx, s.leave, s.o.Resume != nil) {
		s.entered = sync.OnceFunc(s.o.Gate.leave)
		return true
	}
	if s.left() {
		s.outcome = s.untouched()
		return false
	}
	s.o.Resume.Wipe()
	return false
}

// runChild runs one child from its start until it is gone.
func (s *Supervisor) runChild(ctx context.Context, number uint64) (pid int, err error) {
	resume := s.o.Resume
	if number > 1 {
		resume = nil
	}
	defer s.entered()
	defer resume.Wipe()
	c, err := s.start(number)
	if err != nil {
		return 0, fmt.Errorf("start child: %w", err)
	}
	defer s.setCurrent(nil)
	c.resume = resume
	err = c.run(ctx)
	if s.left() {
		s.outcome = c.outcome(err)
		c.logHandOver()
	}
	return c.cmd.Process.Pid, err
}

// Send queues a message for the given child. It never blocks. That it returns nil does not mean
// that the message will arrive: an Exited event may come instead.
func (s *Supervisor) Send(number uint64, m pipe.Message) error {
	s.mu.Lock()
	c := s.current
	s.mu.Unlock()
	if c == nil || c.number != number {
		return fmt.Errorf("send to child %d: %w", number, ErrGone)
	}
	if err := c.enqueue(m); err != nil {
		return fmt.Errorf("send to child %d: %w", number, err)
	}
	return nil
}

func (s *Supervisor) setCurrent(c *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = c
}

// emit waits until the owner takes the event, or nobody shall hear of it any more.
func (s *Supervisor) emit(ctx context.Context, e Event) {
	select {
	case s.o.Events <- e:
	case <-s.leave:
	case <-ctx.Done():
	}
}

// sleep reports whether d passed before Run was to end.
func (s *Supervisor) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.leave:
		return false
	case <-ctx.Done():
		return false
	}
}
