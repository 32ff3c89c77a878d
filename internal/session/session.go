package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"tund/internal/keys"
)

const (
	// helloLimit is how long the peer's HELLO may take after the handshake.
	helloLimit = 10 * time.Second
	// pingInterval and deadLimit are the liveness of protocol.md: three PINGs may be lost.
	pingInterval = 5 * time.Second
	deadLimit    = 15 * time.Second
	// shutdownLimit is how long a SHUTDOWN waits for its CLOSE.
	shutdownLimit = 3 * time.Second
	// maxPings bounds the PINGs without an answer; more are not sent.
	maxPings = 64
)

// Reasons for the end of a session without a CLOSE.
var (
	ErrSilent  = errors.New("peer silent for 15s")
	ErrNoHello = errors.New("no HELLO within 10s")
	ErrNoClose = errors.New("SHUTDOWN not answered within 3s")
)

// Secrets gives the pre-shared key of the peer, nil for none. PSK is asked at each REKEY,
// on the session's goroutine; the copy is wiped after use.
type Secrets interface {
	PSK() *keys.Secret
}

// Options are what a session needs. All fields must be set.
type Options struct {
	Log       *slog.Logger
	Conn      *Conn // owned by the session from now on
	Identity  *keys.Identity
	Hello     Hello // ours; Versions may be empty
	Secrets   Secrets
	Indexes   *keys.Indexes
	NextKeyID func() keys.KeyID // called on the session's goroutine
	Allowance *Allowance        // of the peer, for all its sessions
	Events    chan<- Event
}

// Session is one control session. All methods but Run are safe for concurrent use and never
// block; the commands do nothing after the end.
type Session struct {
	o    Options
	self keys.PublicKey
	peer keys.PublicKey

	commands mailbox

	// Owned by the Run goroutine.
	ctx      context.Context // of Run, for the sending of events
	state    state
	in       *reader
	out      *writer
	hellos   struct{ ours, theirs []byte } // as on the wire
	aead     keys.AEAD
	live     liveness
	exchange exchanges
	timer    *time.Timer
	leaving  time.Time // when to stop waiting for CLOSE
	opened   time.Time
}

// New makes a session over an authenticated connection. It starts nothing; if Run is never
// called the owner must close the Conn itself.
func New(o Options) *Session {
	if len(o.Hello.Versions) == 0 {
		o.Hello.Versions = []uint16{Version}
	}
	s := &Session{o: o, self: o.Identity.Public(), peer: o.Conn.Peer()}
	s.commands.notify = make(chan struct{}, 1)
	s.exchange.chain = o.Conn.takeExporter()
	return s
}

// Peer is the public key of the other end.
func (s *Session) Peer() keys.PublicKey { return s.peer }

// Dialled says whether this node dialled.
func (s *Session) Dialled() bool { return s.o.Conn.Dialled() }

// Remote is the TCP address of the other end, IPv4 as IPv4.
func (s *Session) Remote() netip.AddrPort { return s.o.Conn.Remote() }

// Local is our TCP address, IPv4 as IPv4.
func (s *Session) Local() netip.AddrPort { return s.o.Conn.Local() }

// Format names the other end, for every verb: no secret in s can be printed.
func (s *Session) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "session with %s", s.peer)
}

// Run speaks until the session ends, closes the connection and says why: nil if ctx was
// cancelled (then nothing more is sent, neither to the peer nor as an event) or if the owner
// ended it by Close, or by Shutdown that was acknowledged. It must be called once.
func (s *Session) Run(ctx context.Context) error {
	s.ctx = ctx
	s.opened = time.Now()
	s.live.heard(s.opened)
	s.timer = time.NewTimer(time.Hour)
	defer s.timer.Stop()

	var group sync.WaitGroup
	s.in = newReader(s.o.Conn.stream, &s.live)
	s.out = newWriter(s.o.Conn.stream)
	group.Go(s.in.run)  // ends when the connection is closed
	group.Go(s.out.run) // ends when out is closed

	err := s.greet()
	if err == nil {
		err = s.loop()
	}
	s.settle(err)
	linger := s.sayGoodbye(err)
	s.out.close(ctx)
	s.o.Conn.finish(ctx, s.in, linger)
	group.Wait()
	s.exchange.chain.Wipe()
	return s.report(err)
}

// sayGoodbye sends the CLOSE that belongs to the reason of the end, if one does.
func (s *Session) sayGoodbye(end error) bool {
	var c *CloseError
	if !errors.As(end, &c) || c.Remote {
		return false
	}
	return s.send(Close{Code: c.Code, Text: fitText(c.Text)}) == nil
}

// report gives the last event.
func (s *Session) report(end error) error {
	if s.ctx.Err() != nil {
		return nil
	}
	closed := closedEvent(end)
	s.emit(closed)
	return closed.Err
}

// greet sends our HELLO, the first message of either side.
func (s *Session) greet() error {
	data, err := Encode(s.o.Hello)
	if err != nil {
		return fmt.Errorf("send HELLO: %w", err)
	}
	s.hellos.ours = data
	return s.out.send(data)
}

// loop is the one place where anything happens. It ends with a reason, never nil.
func (s *Session) loop() error {
	for {
		s.timer.Reset(time.Until(s.wake()))
		var err error
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-s.commands.notify:
			err = s.onCommands()
		case message, ok := <-s.in.messages:
			err = s.onArrival(message, ok)
		case <-s.out.failed:
			return s.lastWords()
		case <-s.timer.C:
			err = s.onTime(time.Now())
		}
		if err == nil {
			err = s.proceed()
		}
		if err != nil {
			return err
		}
	}
}

// onCommands leaves what follows a command that ends the session in the mailbox.
func (s *Session) onCommands() error {
	for {
		command := s.commands.take()
		if command == nil {
			return nil
		}
		if err := command(); err != nil {
			return err
		}
	}
}

func (s *Session) onArrival(message []byte, ok bool) error {
	if !ok {
		return s.connectionError(s.in.err)
	}
	return s.onMessage(message)
}

// lastWords looks, after a failed write, for the CLOSE that may explain it.
func (s *Session) lastWords() error {
	limit := time.NewTimer(lingerLimit)
	defer limit.Stop()
	for {
		select {
		case data, ok := <-s.in.messages:
			if !ok {
				return s.connectionError(s.in.err)
			}
			if isClose(data) {
				return s.onMessage(data)
			}
		case <-limit.C:
			return s.connectionError(s.out.err)
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

func (s *Session) onMessage(data []byte) error {
	if err := s.o.Allowance.message(); err != nil {
		return err
	}
	m, err := Decode(data)
	if err != nil {
		return s.protocolError(err)
	}
	if err := s.o.Allowance.kind(m.Type()); err != nil {
		return err
	}
	if err := permit(s.state, m.Type()); err != nil {
		return s.protocolError(err)
	}
	switch m := m.(type) {
	case Hello:
		return s.onHello(m, data)
	case Rekey:
		return s.onRequest(request{message: m, data: data})
	case RekeyReply:
		return s.onRekeyReply(m)
	case RekeyDone:
		return s.onRekeyDone(m)
	case Reiv:
		return s.onRequest(request{message: m, data: data})
	case ReivReply:
		return s.onReivReply(m)
	case ReivDone:
		return s.onReivDone(m)
	case Abort:
		return s.onAbort(m)
	case Ping:
		return s.send(Pong(m))
	case Pong:
		return s.onPong(m)
	case Shutdown:
		return s.onShutdown(m)
	case Close:
		return s.onClose(m)
	default:
		panic("session: internal error: no case for " + m.Type().String())
	}
}

// wake is when onTime has something to do.
func (s *Session) wake() time.Time {
	if s.state == stateGreeting {
		return s.opened.Add(helloLimit)
	}
	at := s.live.next()
	for _, t := range []time.Time{s.leaving, s.exchange.deadline} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

func (s *Session) onTime(now time.Time) error {
	switch {
	case s.state == stateGreeting:
		if now.Before(s.opened.Add(helloLimit)) {
			return nil
		}
		return ErrNoHello
	case s.live.dead(now):
		return s.onSilence()
	case s.state == stateLeaving && !now.Before(s.leaving):
		return ErrNoClose
	}
	if d := s.exchange.deadline; !d.IsZero() && !now.Before(d) {
		if err := s.onStandstill(); err != nil {
			return err
		}
	}
	if s.live.pingDue(now) {
		return s.ping(0, false)
	}
	return nil
}

// onSilence ends the session, unless it was our own owner who kept the loop from listening.
func (s *Session) onSilence() error {
	select {
	case message, ok := <-s.in.messages:
		s.live.heard(time.Now())
		return s.onArrival(message, ok)
	default:
		return ErrSilent
	}
}

func (s *Session) onShutdown(m Shutdown) error {
	answer := CloseError{Code: CloseShutdown, Text: "shutdown acknowledged"}
	leaving := s.state == stateLeaving
	s.emit(ShutdownReceived(m))
	if leaving { // both ends wanted it
		return &closeOrder{answer}
	}
	return &answer
}

func (s *Session) onClose(m Close) error {
	received := CloseError{Code: m.Code, Text: m.Text, Remote: true}
	if s.state == stateLeaving {
		return &closeOrder{received}
	}
	return &received
}

// send encodes and queues a message.
func (s *Session) send(m Message) error {
	data, err := Encode(m)
	if err != nil {
		return fmt.Errorf("send %s: %w", m.Type(), err)
	}
	return s.out.send(data)
}

// emit gives an event to the owner and says whether it was taken.
func (s *Session) emit(body EventBody) bool {
	if s.ctx.Err() != nil {
		return false
	}
	select {
	case s.o.Events <- Event{Session: s, Body: body}:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// protocolError ends the session over a message that should not have come.
func (s *Session) protocolError(err error) error {
	return &CloseError{Code: CloseProtocol, Text: err.Error()}
}

// connectionError says how the connection ended.
func (s *Session) connectionError(err error) error {
	if _, malformed := errors.AsType[*frameError](err); malformed {
		return s.protocolError(err)
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("connection closed by peer: %w", err)
	}
	return fmt.Errorf("connection lost: %w", err)
}
