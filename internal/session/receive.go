package session

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"tund/internal/keys"
)

const (
	// preludeLimit is how long after its arrival a connection without a good prelude is
	// closed, preludeSpread by how much that varies to either side.
	preludeLimit  = 5 * time.Second
	preludeSpread = time.Second
)

var (
	errEvicted = errors.New("made room for another connection")
	errBudget  = errors.New("too many handshakes")
)

// arrival is a connection on its way through prelude and TLS.
type arrival struct {
	*pending
	l    *Listener
	raw  net.Conn
	self *listenerIdentity // for all of the way
}

// receive takes one connection through prelude and TLS.
func (l *Listener) receive(ctx context.Context, raw net.Conn, p *pending) {
	stop := context.AfterFunc(ctx, func() { abort(raw) })
	a := &arrival{pending: p, l: l, raw: raw, self: l.self.Load()}
	c, err := a.authenticate(ctx)
	stays := l.o.Admission.leave(p)
	goesOn := stop()
	switch {
	case err == nil && stays && goesOn:
		l.o.Accepted(c)
		return
	case err == nil && !stays:
		err = errEvicted
		a.count(err)
	}
	l.o.Log.Debug("connection refused", "endpoint", addrPort(raw.RemoteAddr()).String(), "err", err)
	if a.stage == awaitingPrelude {
		abort(raw)
	}
	_ = raw.Close() // without a reset, which could overtake what TLS or CLOSE has to say
}

func (a *arrival) authenticate(ctx context.Context) (*Conn, error) {
	record, err := a.introduce(ctx)
	if err != nil {
		return nil, err
	}
	stream, peer, err := a.handshake(record)
	if err != nil {
		a.count(err)
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if !a.isKnown(peer) {
		a.refuse(stream, peer)
		return nil, errUnknownKey
	}
	if err := a.raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return newConn(stream, peer, false)
}

// introduce waits for a good prelude, and returns the first TLS record. Without one, or where no
// handshake may begin, it is silent until the connection's time is over, whatever the other end
// does: it closes neither earlier nor later for anything that came.
func (a *arrival) introduce(ctx context.Context) ([]byte, error) {
	wait := preludeLimit - preludeSpread + rand.N(2*preludeSpread)
	over := time.NewTimer(wait)
	defer over.Stop()
	if err := a.raw.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	p, err := readPrelude(a.raw)
	if err == nil {
		err = p.check(a.self.public, a.l.o.Admission.seen)
	}
	if err == nil && a.l.o.Admission.promote(a.pending) {
		return p.record, nil
	}
	if err == nil {
		err = errBudget
	}
	a.count(err)
	_, _ = io.Copy(io.Discard, a.raw) // ends at the deadline, or before
	select {
	case <-over.C:
	case <-a.evicted:
	case <-ctx.Done():
	}
	return nil, err
}

// count says why a connection ends.
func (a *arrival) count(err error) {
	r := &a.l.o.Admission.refused
	select {
	case <-a.evicted:
		err = errEvicted // whatever it looked like here
	default:
	}
	switch {
	case errors.Is(err, errBudget), errors.Is(err, errEvicted):
		r.limit.Add(1)
	case errors.Is(err, errReplay):
		r.replay.Add(1)
	case a.stage == awaitingPrelude:
		r.prelude.Add(1)
	default:
		r.tls.Add(1)
	}
}

// handshake runs TLS. Whose key the other end has plays no part in it: the certificate comes
// before the proof that the other end has its private key, and who can't give that proof must
// not find out which keys are configured.
func (a *arrival) handshake(record []byte) (*tls.Conn, keys.PublicKey, error) {
	if err := a.raw.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return nil, keys.PublicKey{}, err
	}
	stream := tls.Server(&answeringConn{Conn: a.raw, record: bytes.NewReader(record)}, a.self.config)
	if err := stream.Handshake(); err != nil {
		return nil, keys.PublicKey{}, err
	}
	peer, err := provenKey(stream.ConnectionState())
	return stream, peer, err
}

func (a *arrival) isKnown(peer keys.PublicKey) bool {
	known := a.l.o.Known(peer)
	return known && subtle.ConstantTimeCompare(peer[:], a.self.public[:]) != 1
}

// refuse tells a node that has proven its key that it is no peer of this one.
func (a *arrival) refuse(stream *tls.Conn, peer keys.PublicKey) {
	remote := addrPort(a.raw.RemoteAddr())
	level := slog.LevelDebug // it tries again and again
	if a.l.o.Admission.refused.addKey(peer, remote, time.Now()) {
		level = slog.LevelWarn
	}
	a.l.o.Log.Log(context.Background(), level, "unknown public key refused", "key", peer.String(), "endpoint", remote.String())
	lastWord(stream, Close{Code: CloseUnknownKey, Text: fmt.Sprintf("public key %s is not configured at the remote node", peer)})
}

// answeringConn gives TLS the record again that came with the prelude. Once it has sent our
// answer, the client has answerLimit for all that is missing.
type answeringConn struct {
	net.Conn
	record   *bytes.Reader
	answered bool
}

func (c *answeringConn) Read(b []byte) (int, error) {
	if c.record.Len() > 0 {
		return c.record.Read(b)
	}
	return c.Conn.Read(b)
}

func (c *answeringConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil && !c.answered {
		c.answered = true
		err = c.SetReadDeadline(time.Now().Add(answerLimit))
	}
	return n, err
}
