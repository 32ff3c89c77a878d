package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
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

// acceptPause follows a failed accept, for instance without free descriptors.
const acceptPause = 100 * time.Millisecond

// ListenerOptions are what a listener needs. All fields must be set; the functions are
// called from several goroutines and must not block.
type ListenerOptions struct {
	Log       *slog.Logger
	Identity  *keys.Identity
	Admission *Admission                // shared by all listeners of the node
	Known     func(keys.PublicKey) bool // configured peers; compares in constant time
	Preferred func(netip.Addr) bool     // addresses that configured peers are expected at
	Accepted  func(*Conn)               // takes the connection over
}

// Listener accepts the control sessions of one address. It is safe for concurrent use.
type Listener struct {
	o    ListenerOptions
	tcp  net.Listener
	self atomic.Pointer[listenerIdentity]
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
	l := &Listener{o: o, tcp: tcp}
	if err := l.SetIdentity(o.Identity); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return l, nil
}

// Addr is the bound address.
func (l *Listener) Addr() netip.AddrPort { return addrPort(l.tcp.Addr()) }

// SetIdentity changes the identity for connections that come from now on.
func (l *Listener) SetIdentity(id *keys.Identity) error {
	config, err := serverConfig(id)
	if err != nil {
		return err
	}
	l.self.Store(&listenerIdentity{public: id.Public(), config: config})
	return nil
}

// Close stops listening; Run ends. Connections that were given to Accepted go on.
func (l *Listener) Close() error { return l.tcp.Close() }

// Run accepts until ctx is cancelled or Close is called, and returns nil then. It closes
// the listener, and every connection that has not authenticated.
func (l *Listener) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for {
		raw, err := l.accept(ctx)
		if err != nil {
			return nil
		}
		source := addrPort(raw.RemoteAddr()).Addr()
		p := l.o.Admission.admit(raw, source, l.o.Preferred(source))
		group.Go(func() { l.receive(ctx, raw, p) }) // ends within its deadlines, and with ctx
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
