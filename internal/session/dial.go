package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/keys"
)

const (
	// connectLimit bounds the TCP handshake, handshakeLimit everything from there to the
	// end of the TLS handshake.
	connectLimit   = 10 * time.Second
	handshakeLimit = 10 * time.Second
)

// State is how far a dial has come.
type State uint8

// The states of a dial.
const (
	Connecting     State = iota + 1 // TCP
	Authenticating                  // prelude and TLS
)

// String gives the name used in status.
func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Authenticating:
		return "authenticating"
	default:
		return fmt.Sprintf("dial state %d", uint8(s))
	}
}

// Dialer makes connections to peers. It resolves no names and tries once: both are the
// owner's, see [Backoff]. It is safe for concurrent use.
type Dialer struct {
	Identity *keys.Identity
}

// Dial connects to addr and returns when the node there has proven that it is peer. That
// node may still refuse us: only its HELLO shows that it has not. Progress, if not nil, is
// called on the caller's goroutine. A [*WrongKeyError] says that someone else answered.
func (d *Dialer) Dial(ctx context.Context, addr netip.AddrPort, peer keys.PublicKey, progress func(State)) (*Conn, error) {
	c, err := d.dial(ctx, addr, peer, progress)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context, addr netip.AddrPort, peer keys.PublicKey, progress func(State)) (*Conn, error) {
	if progress == nil {
		progress = func(State) {}
	}
	if peer == d.Identity.Public() {
		return nil, errOwnKey
	}
	config, err := clientConfig(d.Identity, peer)
	if err != nil {
		return nil, err
	}
	progress(Connecting)
	dialer := net.Dialer{Timeout: connectLimit, KeepAlive: -1, Control: controlSocket}
	dialer.SetMultipathTCP(false)
	raw, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, plainCause(err)
	}
	progress(Authenticating)
	stream := tls.Client(&preludeWriter{Conn: raw, listener: peer}, config)
	if err := handshake(ctx, stream); err != nil {
		_ = raw.Close()
		return nil, handshakeError(err, peer)
	}
	c, err := newConn(stream, peer, true)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// handshake runs TLS within its time.
func handshake(ctx context.Context, stream *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	return stream.HandshakeContext(ctx)
}

// handshakeError explains what a listener looks like that has another key, or more to do than it
// allows strangers to cause: it says nothing.
func handshakeError(err error, peer keys.PublicKey) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("handshake: no answer: %s is not the public key there, or too many connections are: %w", peer, err)
	}
	return fmt.Errorf("handshake: %w", err)
}

// plainCause takes "dial tcp ADDRESS" off an error that gets it from us.
func plainCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return op.Err
	}
	return err
}

// controlSocket gives a socket up when what we sent was not acknowledged for as long as a
// silent peer is borne. TCP's keepalive stays off: the session has its own.
func controlSocket(_, _ string, raw syscall.RawConn) error {
	var failure error
	err := raw.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadLimit.Milliseconds()))
	})
	return errors.Join(err, failure)
}
