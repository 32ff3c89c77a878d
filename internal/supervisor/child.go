package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"tund/internal/pipe"
)

// A phase is where in its life a child is; the picture is in the package's comment.
type phase uint8

const (
	starting phase = iota
	configuring
	resuming
	running
	handing
	ending
)

// An exit is the end of the process, with the error of Wait.
type exit struct{ err error }

// ownSeq marks the heartbeats among requests for statistics.
const ownSeq = 1 << 63

// A child is one incarnation. Its run goroutine owns all but the channels.
type child struct {
	s      *Supervisor
	number uint64
	cmd    *exec.Cmd
	in     *os.File // the pipe's end to write to the child
	out    *os.File // and the other's to read from it
	said   *os.File // its standard error's end to read from
	conn   *pipe.Conn
	resume *State // what it shall go on from, or nil

	threads census

	queue    chan pipe.Message // to the writer
	received chan pipe.Message // from the reader, which closes it
	exited   chan exit         // what Wait returned; room for it
	broken   chan error        // why the child must be killed; room for one
	done     chan struct{}     // closed when run returns: ends reader and writer

	watch watch
}

// watch is the run goroutine's view of the child.
type watch struct {
	phase     phase
	inbox     <-chan pipe.Message // received, or nil once that has ended
	timer     *time.Timer         // what it means depends on the phase
	configure pipe.Configure
	beats     uint64
	waiting   bool // for the answer to the last heartbeat
	grant     grant
	fatal     string // the child's last words
	cause     error  // why it was killed

	leave    <-chan struct{} // nil once it was heeded
	hurry    <-chan struct{} // nil before that
	state    State           // what the child has handed over
	complete bool            // all of it
}

// run looks after the child until it is gone, and says why it went.
func (c *child) run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(c.read)
	wg.Go(c.write)
	wg.Go(c.logStderr)
	wg.Go(func() { c.exited <- exit{c.cmd.Wait()} }) // ends with the child
	defer wg.Wait()
	defer c.close()
	c.watch.inbox, c.watch.leave = c.received, c.s.leave
	c.watch.timer = time.NewTimer(c.s.limits.hello)
	defer c.watch.timer.Stop()
	_ = c.enqueue(pipe.Hello{Version: pipe.Version, PID: uint32(os.Getpid())}) // the queue is empty
	for {
		c.s.moveOn()
		select {
		case m, ok := <-c.watch.inbox:
			c.onMessage(ctx, m, ok)
		case err := <-c.broken:
			c.kill(err)
		case <-c.watch.timer.C:
			c.onTimer()
		case <-c.watch.leave:
			c.onLeave()
		case <-c.watch.hurry:
			c.kill(errHurry)
		case <-c.watch.grant.expired:
			c.lower()
		case end := <-c.exited:
			return c.reason(ctx, end)
		case <-ctx.Done():
			c.stop()
			return nil
		}
	}
}

// close ends reader and writer, whose pipes have no other end any more. What the child said last
// is still read.
func (c *child) close() {
	close(c.done)
	c.threads.close()
	if c.watch.grant.timer != nil {
		c.watch.grant.timer.Stop()
	}
	_ = c.said.SetReadDeadline(time.Now().Add(c.s.limits.grace))
	_, _ = c.in.Close(), c.out.Close()
}

// read ends when the pipe does, or with done.
func (c *child) read() {
	defer close(c.received)
	for {
		m, err := c.conn.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.fail(fmt.Errorf("read from child: %w", err))
			}
			return
		}
		select {
		case c.received <- m:
		case <-c.done:
			pipe.WipeMessage(m)
			return
		}
	}
}

// write ends when the pipe is broken, or with done.
func (c *child) write() {
	for {
		select {
		case m := <-c.queue:
			err := c.conn.Send(m)
			pipe.WipeMessage(m)
			if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
				return // it is dead, or its heartbeat will be missed
			}
			if err != nil {
				c.fail(fmt.Errorf("write to child: %w", err))
				return
			}
		case <-c.done:
			return
		}
	}
}

// fail asks the run goroutine to kill the child. The first reason counts.
func (c *child) fail(err error) {
	select {
	case c.broken <- err:
	default:
	}
}

// enqueue never blocks. It is safe for concurrent use.
func (c *child) enqueue(m pipe.Message) error {
	select {
	case c.queue <- m:
		return nil
	default:
		c.fail(ErrHung)
		return ErrHung
	}
}

// onMessage takes what the reader has got; not ok means that the pipe has ended.
func (c *child) onMessage(ctx context.Context, m pipe.Message, ok bool) {
	if !ok {
		c.watch.inbox = nil
		if c.watch.phase != ending {
			c.watch.phase = ending
			c.setTimer(c.s.limits.grace)
		}
		return
	}
	c.note(m)
	switch c.watch.phase {
	case starting:
		c.onHello(m)
	case configuring:
		c.onConfigured(ctx, m)
	case resuming:
		c.onResumed(ctx, m)
	case running:
		c.onReceived(ctx, m)
	case handing:
		c.collect(m)
	case ending:
		pipe.WipeMessage(m)
	}
}

// setTimer sets the timer, unless that of HandOver runs already.
func (c *child) setTimer(d time.Duration) {
	if c.watch.leave != nil {
		c.watch.timer.Reset(d)
	}
}

func (c *child) onHello(m pipe.Message) {
	hello, ok := m.(pipe.Hello)
	switch {
	case !ok:
		c.kill(fmt.Errorf("message of type %d before hello", m.Type()))
	case hello.Version != pipe.Version:
		c.kill(fmt.Errorf("speaks version %d, not %d", hello.Version, pipe.Version))
	default:
		c.watch.phase = configuring
		c.watch.configure = c.s.o.Configure()
		c.watch.configure.Await = c.resume != nil
		_ = c.enqueue(c.watch.configure)
	}
}

func (c *child) onConfigured(ctx context.Context, m pipe.Message) {
	configured, ok := m.(pipe.Configured)
	if !ok {
		return
	}
	if configured.Seq != c.watch.configure.Seq {
		c.kill(fmt.Errorf("answered configuration %d, not %d", configured.Seq, c.watch.configure.Seq))
		return
	}
	if c.resume != nil {
		c.watch.phase = resuming
		c.sendState()
		return
	}
	c.started(ctx, Started{})
}

func (c *child) started(ctx context.Context, s Started) {
	c.watch.phase = running
	c.s.entered()
	c.setTimer(c.s.o.Heartbeat)
	c.s.o.Log.Info("child started", "child", c.number, "pid", c.cmd.Process.Pid)
	if c.watch.leave == nil {
		c.ask()
		return
	}
	c.s.setCurrent(c)
	c.emit(ctx, s)
}

func (c *child) onReceived(ctx context.Context, m pipe.Message) {
	if urgent, ok := m.(pipe.Urgent); ok {
		c.raise(int(urgent.Thread))
		return
	}
	if stats, ok := m.(pipe.Stats); ok && stats.Seq == ownSeq|c.watch.beats && c.watch.waiting {
		c.watch.waiting = false
		c.watch.timer.Reset(c.s.o.Heartbeat)
	}
	c.emit(ctx, Received{Message: m})
}

// note remembers last words.
func (c *child) note(m pipe.Message) {
	if fatal, ok := m.(pipe.Fatal); ok {
		c.watch.fatal = fatal.Reason
	}
}

// emit passes an event on. Time that the owner takes for it is not held against the child, whose
// answer may lie unread meanwhile.
func (c *child) emit(ctx context.Context, b Body) {
	began := time.Now()
	c.s.emit(ctx, Event{Child: c.number, PID: c.cmd.Process.Pid, Body: b})
	if c.watch.waiting && time.Since(began) > c.s.limits.answer/10 {
		c.watch.timer.Reset(c.s.limits.answer)
	}
}

// onTimer is called when the child has had its time, or when a heartbeat is due.
func (c *child) onTimer() {
	switch {
	case c.watch.leave == nil:
		c.kill(fmt.Errorf("did not hand over within %s", c.s.limits.grace))
	case c.watch.phase == starting:
		c.kill(fmt.Errorf("no hello within %s", c.s.limits.hello))
	case c.watch.phase == configuring, c.watch.phase == resuming:
		c.kill(fmt.Errorf("not configured within %s", c.s.limits.hello))
	case c.watch.phase == ending:
		c.kill(fmt.Errorf("closed its pipe and did not exit within %s", c.s.limits.grace))
	case c.watch.waiting:
		c.kill(fmt.Errorf("no answer to a heartbeat within %s", c.s.limits.answer))
	default:
		if err := c.threads.count(); err != nil {
			c.kill(err)
			return
		}
		c.watch.beats++
		c.watch.waiting = true
		c.watch.timer.Reset(c.s.limits.answer)
		_ = c.enqueue(pipe.GetStats{Seq: ownSeq | c.watch.beats}) // if it fails, broken tells
	}
}

// kill ends the child at once. Its exit is still to come.
func (c *child) kill(cause error) {
	if c.watch.cause == nil {
		c.watch.cause = cause
	}
	c.watch.phase = ending
	c.watch.timer.Stop()
	_ = c.cmd.Process.Kill() // fails only if it is gone already
}

// reason is called after the exit. What the child said before comes first: it may
// still lie in the pipe.
func (c *child) reason(ctx context.Context, end exit) error {
	c.s.setCurrent(nil)
	_ = c.out.SetReadDeadline(time.Now().Add(c.s.limits.grace)) // nobody else has the other end
	for c.watch.inbox != nil && ctx.Err() == nil {
		m, ok := <-c.watch.inbox
		if !ok {
			break
		}
		c.note(m)
		switch {
		case c.watch.phase == handing:
			c.collect(m)
		case c.watch.phase == running && isNews(m):
			c.emit(ctx, Received{Message: m})
		default:
			pipe.WipeMessage(m)
		}
	}
	switch {
	case c.watch.fatal != "":
		return fmt.Errorf("child: %s", c.watch.fatal)
	case c.watch.cause != nil:
		return fmt.Errorf("child: killed: %w", c.watch.cause)
	case end.err != nil:
		return fmt.Errorf("child: %w", explain(end.err))
	case c.watch.complete:
		return nil
	default:
		return errors.New("child: exited without being told to")
	}
}

// explain says what may be behind the end of a process that nobody has ordered.
func explain(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled() && status.Signal() == syscall.SIGKILL:
		return fmt.Errorf("%w, and not by tund: the kernel does that where memory is short, which it logs, and to a loop that never sleeps at real-time priority", err)
	default:
		return fmt.Errorf("%w: its last words are in the log", err)
	}
}

// stop ends the child in order, and returns when it is gone. Nobody hears its messages any more.
func (c *child) stop() {
	c.watch.complete = false
	_ = c.enqueue(pipe.Stop{})
	if c.gone(c.s.limits.grace) {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	if c.gone(c.s.limits.grace) {
		return
	}
	c.s.o.Log.Warn("child killed because it did not stop", "child", c.number, "pid", c.cmd.Process.Pid)
	_ = c.cmd.Process.Kill()
	<-c.exited
}

// gone waits for the exit. It reads on, since a child may be blocked in writing.
func (c *child) gone(within time.Duration) bool {
	c.watch.timer.Reset(within)
	for {
		select {
		case m, ok := <-c.watch.inbox:
			if !ok {
				c.watch.inbox = nil
			}
			pipe.WipeMessage(m)
		case <-c.exited:
			return true
		case <-c.watch.timer.C:
			return false
		}
	}
}
