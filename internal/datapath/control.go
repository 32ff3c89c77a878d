package datapath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
)

// control is the goroutine that talks to the parent. It owns the keyring, publishes
// the table, and sends probes. Nothing that it does is waited for by the loops.
type control struct {
	*shared
	log    *slog.Logger
	pipe   Pipe
	mode   pipe.Mode
	out    *outbound
	in     *inbound
	both   Both          // nil: each direction has a goroutine of its own
	thread Thread        // of both's goroutine, or nil
	urgent atomic.Uint32 // the thread whose priority is to be asked for, or 0

	configured bool
	awaiting   bool             // the loops wait for Resume
	states     []*pipe.KeyState // that have come for it
	base       pipe.Totals      // what the child before has counted
	halted     bool             // stop is closed
	lifetime   time.Duration
	sources    *sources
	offloads   pipe.Offloads // in force
	walls      pipe.Walls
	keyring    keyring
	prober     prober
	timer      Timer // nil: package time's
	graves     []grave

	loops  loops
	inbox  chan message
	ended  chan struct{}
	reader loops
}

// message is what Receive returned.
type message struct {
	pipe.Message
	err error
}

func newControl(o Options, sh *shared, out *outbound, in *inbound) *control {
	return &control{
		shared: sh, log: o.Log, pipe: o.Pipe, mode: o.Mode, out: out, in: in, both: o.Both, thread: o.Thread,
		timer: o.Timer, walls: o.Sandbox,
		keyring: keyring{limits: &sh.limits, engine: o.Engine},
		prober:  prober{shared: sh, in: &in.counters},
		loops:   loops{failed: make(chan error, 2)},
		inbox:   make(chan message),
		ended:   make(chan struct{}),
	}
}

// run serves until there is a reason to end; nil for a good one.
func (c *control) run(ctx context.Context) error {
	c.reader.start(c.read)
	timer := c.timer
	if timer == nil {
		timer = systemTimer{time.NewTimer(0)}
	}
	defer timer.Stop()
	for {
		timer.Reset(max(0, c.due()-c.now()))
		var err error
		select {
		case m := <-c.inbox:
			err = c.onMessage(m)
		case a := <-c.answers:
			err = c.onAnswer(a)
		case err = <-c.loops.failed:
		case <-c.wake:
		case <-timer.C():
		case <-ctx.Done():
			return nil
		}
		if err == nil {
			err = c.review()
		}
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errStop ends run without being an error.
var errStop = errors.New("stop")

// halt ends the loops for good, which finish the batch in work, and waits for that. The
// error is that of a loop.
func (c *control) halt() error {
	if !c.halted {
		c.halted = true
		c.halting.Store(true)
		if err := c.stop.Close(); err != nil {
			return err
		}
	}
	c.loops.group.Wait()
	select {
	case err := <-c.loops.failed:
		return err
	default:
		return nil
	}
}

// close ends the loops and wipes the keys.
func (c *control) close() {
	close(c.ended)
	_ = c.halt()
	c.loops.group.Wait()
	_ = c.pipe.Close()
	c.reader.group.Wait()
	c.forget()
	c.wipe()
	c.bury()
}

// read passes the parent's messages on. It ends when the pipe does, after an error,
// or when nobody takes them any more.
func (c *control) read() error {
	for {
		m, err := c.pipe.Receive()
		select {
		case c.inbox <- message{m, err}:
		case <-c.ended:
			pipe.WipeMessage(m)
			return nil
		}
		if err != nil {
			return nil // it went with the message
		}
	}
}

// due returns when review has something to do.
func (c *control) due() time.Duration {
	at := c.prober.next()
	if len(c.graves) > 0 {
		at = min(at, c.now()+buryAfter)
	}
	for _, s := range c.keyring.slots {
		at = min(at, s.epoch.installed+c.lifetime)
	}
	return at
}

// onMessage has a case for every message that a parent may send.
func (c *control) onMessage(m message) error {
	if errors.Is(m.err, io.EOF) {
		return errStop
	}
	if m.err != nil {
		return m.err
	}
	if !c.configured && needsConfigure(m.Message) {
		pipe.WipeMessage(m.Message)
		return fmt.Errorf("message of type %d before the configuration", m.Type())
	}
	switch m := m.Message.(type) {
	case pipe.Hello:
		return c.onHello(m)
	case pipe.Configure:
		return c.onConfigure(m)
	case *pipe.InstallKey:
		return c.onInstallKey(m)
	case pipe.InstallIV:
		return c.onInstallIV(m)
	case pipe.Activate:
		c.activate(c.keyring.find(name{m.KeyID, m.Generation}))
	case pipe.Retire:
		c.keyring.retire(name{m.KeyID, m.Generation})
		c.publish()
	case pipe.Drop:
		c.keyring.drop(name{m.KeyID, m.Generation})
		c.publish()
	case pipe.Displace:
		return c.onDisplace(m)
	case pipe.Wipe:
		c.wipe()
		return c.pipe.Send(pipe.Wiped(m))
	case pipe.GetStats:
		return c.onGetStats(m)
	case pipe.SendProbe:
		return c.onSendProbe(m)
	case *pipe.KeyState:
		return c.onKeyState(m)
	case pipe.Resume:
		return c.onResume(m)
	case pipe.HandOver:
		return c.handOver()
	case pipe.Stop:
		return errStop
	default:
		return fmt.Errorf("message of type %d: unexpected", m.Type())
	}
	return nil
}

// needsConfigure is true for what makes no sense before the first Configure.
func needsConfigure(m pipe.Message) bool {
	switch m.(type) {
	case pipe.Hello, pipe.Configure, pipe.GetStats, pipe.Wipe, pipe.Stop:
		return false
	}
	return true
}

func (c *control) onHello(m pipe.Hello) error {
	if err := c.pipe.Send(pipe.Hello{Version: pipe.Version, PID: uint32(os.Getpid())}); err != nil {
		return err
	}
	if m.Version != pipe.Version {
		return fmt.Errorf("parent speaks version %d, child %d", m.Version, pipe.Version)
	}
	return nil
}

// onConfigure takes the configuration; the first one starts the loops, or says that Resume
// will.
func (c *control) onConfigure(m pipe.Configure) error {
	if m.Mode != c.mode {
		return fmt.Errorf("configured as %s, device is %s", m.Mode, c.mode)
	}
	if m.KeyLifetime <= 0 {
		return errors.New("configured without a key lifetime")
	}
	c.sources = newSources(m.AllowedIPs)
	c.lifetime = m.KeyLifetime
	c.prober.keepalive = m.Keepalive
	c.offload(m.Offloads)
	c.publish()
	if !c.configured {
		c.configured, c.awaiting = true, m.Await
		if !m.Await {
			c.move()
		}
	}
	return c.pipe.Send(pipe.Configured{Seq: m.Seq})
}

// move starts the loops.
func (c *control) move() {
	if c.both != nil {
		j := &joint{out: c.out, in: c.in, both: c.both, priority: priority{thread: c.thread, raise: c.raise}}
		c.loops.start(j.run)
		return
	}
	c.loops.start(c.out.run)
	c.loops.start(c.in.run)
}

// raise has the parent asked for the priority of a thread. A loop calls it; it never blocks.
func (c *control) raise(thread int) {
	c.urgent.Store(uint32(thread))
	c.signal()
}

// offload tries what is wanted of the socket and notes what is in force.
func (c *control) offload(wanted pipe.Offloads) {
	const socket = pipe.OffloadUDPGSO | pipe.OffloadUDPGRO
	c.offloads = wanted &^ (socket | pipe.OffloadPartialCsum)
	if c.socket.SetGSO(wanted&pipe.OffloadUDPGSO != 0) {
		c.offloads |= pipe.OffloadUDPGSO
	}
	if c.socket.SetGRO(wanted&pipe.OffloadUDPGRO != 0) {
		c.offloads |= pipe.OffloadUDPGRO
	}
}

func (c *control) onInstallKey(m *pipe.InstallKey) error {
	if c.awaiting {
		m.Wipe()
		return c.installed(nil, pipe.Installed{KeyID: m.KeyID}, false, errAwaiting)
	}
	s, err := c.keyring.install(m, c.now())
	return c.installed(s, pipe.Installed{KeyID: m.KeyID}, m.Activate, err)
}

func (c *control) onInstallIV(m pipe.InstallIV) error {
	s, err := c.keyring.installIV(m)
	return c.installed(s, pipe.Installed{KeyID: m.KeyID, Generation: m.Generation}, m.Activate, err)
}

// installed makes a new slot live before it tells the parent.
func (c *control) installed(s *slot, answer pipe.Installed, activate bool, err error) error {
	if err != nil {
		answer.Err = err.Error()
		return c.pipe.Send(answer)
	}
	if activate {
		c.activate(s)
	}
	c.publish()
	return c.pipe.Send(answer)
}

// activate switches sending to s if it may, and begins to confirm it.
func (c *control) activate(s *slot) {
	if !c.keyring.activate(s) {
		return
	}
	c.publish()
	c.prober.switched(s, c.now())
	c.log.Debug("sending with a new key", "key", s.id, "epoch", s.epoch.number, "generation", s.generation)
}

// onDisplace drops what has not come into use. What has is announced, if it was not yet.
func (c *control) onDisplace(m pipe.Displace) error {
	gone := c.keyring.displace(name{m.KeyID, m.Generation})
	c.publish()
	return c.pipe.Send(pipe.Displaced{KeyID: m.KeyID, Generation: m.Generation, Kept: !gone})
}

// wipe leaves no key.
func (c *control) wipe() {
	c.keyring.wipe()
	c.prober.confirming = nil
	c.publish()
}

// onGetStats answers, unless a loop hangs: then the parent shall miss the answer.
func (c *control) onGetStats(m pipe.GetStats) error {
	now := c.now()
	for _, turn := range []*turn{&c.out.turn, &c.in.turn} {
		if turn.hangs(now) {
			c.log.Error("packet loop hangs", "duration", now-turn.since)
			return nil
		}
	}
	return c.pipe.Send(c.stats(m.Seq, now))
}

func (c *control) onSendProbe(m pipe.SendProbe) error {
	if c.prober.measure(m.ID, c.now()) {
		return nil
	}
	return c.pipe.Send(c.prober.result(m.ID))
}

func (c *control) onAnswer(a answered) error {
	if m, ok := c.prober.answer(a); ok {
		return c.pipe.Send(m)
	}
	return nil
}

// review looks at all that time and the loops may have changed.
func (c *control) review() error {
	now := c.now()
	c.bury()
	if thread := c.urgent.Swap(0); thread != 0 {
		if err := c.pipe.Send(pipe.Urgent{Thread: thread}); err != nil {
			return err
		}
	}
	if c.configured {
		if err := c.reviewKeys(now); err != nil {
			return err
		}
	}
	for _, m := range c.prober.tick(now) {
		if err := c.pipe.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// reviewKeys ends keys, announces and activates what was heard, and asks for successors.
func (c *control) reviewKeys(now time.Duration) error {
	ended := c.keyring.expire(now, c.lifetime)
	if len(ended) > 0 {
		c.publish()
	}
	for _, e := range ended {
		if err := c.rekeyDue(e, pipe.RekeyExpired); err != nil {
			return err
		}
	}
	for _, s := range slices.Backward(slices.Clone(c.keyring.slots)) {
		if err := c.reviewSlot(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *control) reviewSlot(s *slot) error {
	if s.heard.Load() && !s.announced {
		s.announced = true
		c.activate(s)
		if err := c.pipe.Send(pipe.KeyActive{KeyID: s.id, Generation: s.generation}); err != nil {
			return err
		}
	}
	for _, reason := range c.keyring.near(s.epoch) {
		if err := c.rekeyDue(s.id, reason); err != nil {
			return err
		}
	}
	return nil
}

func (c *control) rekeyDue(id keys.KeyID, reason pipe.RekeyReason) error {
	return c.pipe.Send(pipe.RekeyDue{KeyID: id, Reason: reason})
}

// publish gives the loops a new table.
func (c *control) publish() {
	c.table.Store(&table{
		lifetime: c.lifetime, sources: c.sources, offloads: c.offloads, send: c.keyring.sending, receive: c.keyring.receiving(),
	})
	for _, e := range c.keyring.dead {
		c.graves = append(c.graves, grave{epoch: e, out: c.out.turn.n.Load(), in: c.in.turn.n.Load()})
	}
	c.keyring.dead = nil
}
