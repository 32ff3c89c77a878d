package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/keys"
)

const (
	// preludeLimit is how long after its arrival a connection without a good prelude is
	// closed, preludeSpread by how much that varies to either side.
	preludeLimit  = 5 * time.Second
	preludeSpread = time.Second
	// acceptPause follows a failed accept, for instance without free descriptors.
	acceptPause = 100 * time.Millisecond
)

// ListenerOptions are what a listener needs. All fields must be set; the functions are
// called from several goroutines and must not block.
type ListenerOptions struct {
	Log      *slog.Logger
	Identity *keys.Identity
	Known    func(keys.PublicKey) bool // configured peers; compares in constant time
	Reserved func(netip.Addr) bool     // addresses that configured peers may come from
	Accepted func(*Conn)               // takes the connection over
}

// Refusals count the connections that did not become a session.
type Refusals struct {
	Prelude    uint64 // no good prelude in time
	Replay     uint64 // a prelude seen before
	TLS        uint64 // the handshake failed
	UnknownKey uint64 // the other end is no configured peer
	Limit      uint64 // too many at once
}

// Listener accepts the control sessions of one address. It is safe for concurrent use.
type Listener struct {
	o     ListenerOptions
	tcp   net.Listener
	hall  *admission
	seen  *replays
	self  atomic.Pointer[listenerIdentity]
	count struct{ prelude, replay, tls, unknown, limit atomic.Uint64 }
}

type listenerIdentity struct {
	public keys.PublicKey
	config *tls.Config
}

// Listen binds addr; "[::]" takes IPv4 as well. Until Run is called nothing is accepted.
func Listen(addr netip.AddrPort, o ListenerOptions) (*Listener, error) {
	network := "tcp"
	if addr.Addr().Is4() {
		network = "tcp4" // else 0.0.0.0 would mean [::]
	}
	config := net.ListenConfig{KeepAlive: -1, Control: controlSocket}
	config.SetMultipathTCP(false)
	tcp, err := config.Listen(context.Background(), network, addr.String())
	if err != nil {
		return nil, err // "listen tcp ADDRESS: ..."
	}
	return newListener(tcp, o)
}

// ListenOn takes a TCP listener that is there already. It belongs to the Listener from then on,
// also after an error.
func ListenOn(tcp net.Listener, o ListenerOptions) (*Listener, error) {
	if s, ok := tcp.(syscall.Conn); ok {
		raw, err := s.SyscallConn()
		if err == nil {
			err = controlSocket("", "", raw)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen tcp %s: %w", tcp.Addr(), err), tcp.Close())
		}
	}
	return newListener(tcp, o)
}

func newListener(tcp net.Listener, o ListenerOptions) (*Listener, error) {
	l := &Listener{o: o, tcp: tcp, hall: newAdmission(), seen: newReplays()}
	if err := l.SetIdentity(o.Identity); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return l, nil
}

// Addr is the bound address.
func (l *Listener) Addr() netip.AddrPort { return addrPort(l.tcp.Addr()) }

// SetIdentity changes the identity for connections that come from now on.
func (l *Listener) SetIdentity(id *keys.Identity) error {
	config, err := serverConfig(id, func(k keys.PublicKey) bool { return l.o.Known(k) })
	if err != nil {
		return err
	}
	l.self.Store(&listenerIdentity{public: id.Public(), config: config})
	return nil
}

// Refused gives the counters.
func (l *Listener) Refused() Refusals {
	return Refusals{
		Prelude: l.count.prelude.Load(), Replay: l.count.replay.Load(), TLS: l.count.tls.Load(),
		UnknownKey: l.count.unknown.Load(), Limit: l.count.limit.Load(),
	}
}

// Close stops listening; Run ends. Connections that were given to Accepted go on.
func (l *Listener) Close() error { return l.tcp.Close() }

// Run accepts until ctx is cancelled or Close is called, and returns nil then. It closes
// the listener, and every connection that has not authenticated.
func (l *Listener) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	defer l.hall.closeAll()
	for {
		raw, err := l.accept(ctx)
		if err != nil {
			return nil
		}
		source := addrPort(raw.RemoteAddr()).Addr()
		g := l.hall.admit(raw, source, l.o.Reserved(source))
		if g == nil {
			l.count.limit.Add(1)
			_ = raw.Close()
			continue
		}
		group.Go(func() { l.receive(ctx, raw, g) }) // ends within its deadlines
	}
}

// accept waits for the next connection, also through a lack of descriptors or where somebody destroys
// the socket, and fails only when the listener is closed. A lack that lasts is logged once.
func (l *Listener) accept(ctx context.Context) (net.Conn, error) {
	for failures := 0; ; failures++ {
		raw, err := l.tcp.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return raw, err
		}
		if failures == 0 {
			l.o.Log.Warn("connection not accepted", "err", err)
		}
		if errors.Is(err, unix.EINVAL) && l.listenAgain() == nil && failures == 0 {
			l.o.Log.Info("listening again", "addr", l.tcp.Addr().String())
		}
		if !pause(ctx, acceptPause) {
			return nil, ctx.Err()
		}
	}
}

// listenAgain has a socket listen that somebody has destroyed (ss -K). It has kept its port, but is
// shut down for both directions, as all that it accepted would be, until it is disconnected.
func (l *Listener) listenAgain() error {
	s, ok := l.tcp.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		nowhere := unix.RawSockaddr{Family: unix.AF_UNSPEC}
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&nowhere)), unsafe.Sizeof(nowhere))
		if errno != 0 {
			failed = errno
			return
		}
		failed = unix.Listen(int(fd), unix.SOMAXCONN)
	})
	return errors.Join(err, failed)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// receive takes one connection through prelude and TLS.
func (l *Listener) receive(ctx context.Context, raw net.Conn, g *guest) {
	defer l.hall.leave(g)
	c, err := l.authenticate(ctx, raw, g)
	if err != nil {
		l.o.Log.Debug("connection refused", "endpoint", addrPort(raw.RemoteAddr()).String(), "err", err)
		_ = raw.Close()
		return
	}
	l.hall.leave(g)
	l.o.Accepted(c)
}

func (l *Listener) authenticate(ctx context.Context, raw net.Conn, g *guest) (*Conn, error) {
	self := l.self.Load()
	wait := preludeLimit - preludeSpread + rand.N(2*preludeSpread)
	if err := raw.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	p, err := l.readPrelude(raw, self.public)
	if err != nil {
		_, _ = io.Copy(io.Discard, raw) // ends at the deadline
		return nil, err
	}
	if !l.hall.promote(g) {
		l.count.limit.Add(1)
		return nil, errors.New("too many handshakes")
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	stream := tls.Server(&replayedConn{Conn: raw, record: bytes.NewReader(p.record)}, self.config)
	if err := l.handshake(ctx, stream); err != nil {
		return nil, err
	}
	peer, err := provenKey(stream.ConnectionState())
	if err != nil {
		return nil, err
	}
	return newConn(stream, peer, false)
}

func (l *Listener) readPrelude(raw net.Conn, self keys.PublicKey) (prelude, error) {
	p, err := readPrelude(raw)
	if err == nil {
		err = p.check(self, l.seen)
	}
	switch {
	case errors.Is(err, errReplay):
		l.count.replay.Add(1)
	case err != nil:
		l.count.prelude.Add(1)
	}
	return p, err
}

func (l *Listener) handshake(ctx context.Context, stream *tls.Conn) error {
	err := handshake(ctx, stream)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUnknownKey):
		l.count.unknown.Add(1)
	default:
		l.count.tls.Add(1)
	}
	return fmt.Errorf("handshake: %w", err)
}
