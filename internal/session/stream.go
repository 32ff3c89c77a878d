package session

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

const (
	// queueLength is how many messages may wait for a peer that does not read. A session
	// never has more than a few under way.
	queueLength = 64
	// lingerLimit is how long the end of a session waits for its last words to leave and
	// for the peer to take them. Closing with data unread would reset the connection, and
	// the peer might never see why.
	lingerLimit = time.Second
)

var errNotReading = errors.New("peer does not read")

// reader turns the connection into messages. Its channel is closed at the first error,
// which then stands in err.
type reader struct {
	conn     net.Conn
	live     *liveness
	messages chan []byte // unbuffered: what the loop does not take stays in the kernel
	stop     chan struct{}
	err      error
}

func newReader(conn net.Conn, live *liveness) *reader {
	return &reader{conn: conn, live: live, messages: make(chan []byte), stop: make(chan struct{})}
}

// run ends when the connection is closed, or at stop.
func (r *reader) run() {
	defer close(r.messages)
	for {
		message, err := readFrame(r.conn)
		if err != nil {
			r.err = err
			return
		}
		r.live.heard(time.Now())
		select {
		case r.messages <- message:
		case <-r.stop:
			return
		}
	}
}

// discardRest reads, after a frame that is none, what the peer goes on sending before it sees our CLOSE.
func (r *reader) discardRest() {
	if _, malformed := errors.AsType[*frameError](r.err); !malformed {
		return
	}
	if r.conn.SetReadDeadline(time.Now().Add(lingerLimit)) == nil {
		_, _ = io.CopyN(io.Discard, r.conn, discardBytes)
	}
}

// writer sends what is queued. It is closed by the loop that fills it.
type writer struct {
	conn   net.Conn
	queue  chan []byte
	done   chan struct{} // closed when run has ended
	failed chan struct{} // closed at the first error, which then stands in err
	err    error
}

func newWriter(conn net.Conn) *writer {
	return &writer{
		conn: conn, queue: make(chan []byte, queueLength),
		done: make(chan struct{}), failed: make(chan struct{}),
	}
}

func (w *writer) send(message []byte) error {
	select {
	case w.queue <- frame(message):
		return nil
	default:
		return errNotReading
	}
}

// run ends when the queue is closed and empty, or at the first error.
func (w *writer) run() {
	defer close(w.done)
	for f := range w.queue {
		err := w.conn.SetWriteDeadline(time.Now().Add(deadLimit))
		if err == nil {
			_, err = w.conn.Write(f)
		}
		if err != nil {
			w.err = err
			close(w.failed)
			return
		}
	}
}

// close lets what is queued leave, for a moment.
func (w *writer) close(ctx context.Context) {
	close(w.queue)
	limit := time.NewTimer(lingerLimit)
	defer limit.Stop()
	select {
	case <-w.done:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// finish closes the connection. If linger is set it first waits for the peer to have read
// everything, which the peer shows by closing its end or by a CLOSE of its own.
func (c *Conn) finish(ctx context.Context, in *reader, linger bool) {
	if linger && ctx.Err() == nil && closeWrite(c.stream) == nil {
		discard(ctx, in)
	}
	close(in.stop)
	_ = c.Close()
}

// What is read of a peer that goes on sending after the end. It is told why all the same.
const (
	discardMessages = 100
	discardBytes    = 256 << 10
)

func discard(ctx context.Context, in *reader) {
	messages := in.messages
	limit := time.NewTimer(lingerLimit)
	defer limit.Stop()
	for read := 0; ; read++ {
		if read == discardMessages {
			messages = nil
		}
		select {
		case data, more := <-messages:
			if !more {
				in.discardRest()
				return
			}
			if isClose(data) {
				return
			}
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func isClose(data []byte) bool {
	m, err := Decode(data)
	return err == nil && m.Type() == TypeClose
}
