package pipe

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// The frame around each message:
//
//	0                4      5
//	+----------------+------+---------
//	| length (32 BE) | type | body ...
//	+----------------+------+---------
//
// The length counts type and body, so it is at least 1.
const (
	headSize = 5
	maxFrame = 1 << 22 // room for all networks that a configuration file can hold
)

// ErrDirection is returned for a message that its sender may not send, or not then.
var ErrDirection = errors.New("message not permitted here")

// Conn is one end of the conversation between a parent and a child.
type Conn struct {
	role   Role
	ledger *ledger // the parent's; nil: a child takes what its parent sends

	r       io.Reader // owned by the caller of Receive
	in      []byte
	greeted bool // the other side's Hello was received

	mu  sync.Mutex // one message at a time: guards w and out
	w   io.Writer
	out []byte
}

// NewConn returns the end with the given role, which reads from r and writes to w.
// Closing them is the caller's business, and the only way to interrupt Receive.
func NewConn(r io.Reader, w io.Writer, role Role) *Conn {
	// Messages with key bytes must fit, or append would leave copies of them behind.
	const roomy = headSize + maxKeyState
	c := &Conn{role: role, r: r, in: make([]byte, roomy), w: w, out: make([]byte, 0, roomy)}
	if role == Parent {
		c.ledger = newLedger()
	}
	return c
}

// Send writes one message with a single Write. It blocks as long as the pipe is full.
// It is safe for concurrent use. The caller still owns m and wipes what it holds.
func (c *Conn) Send(m Message) error {
	if !maySend(c.role, m.Type()) {
		return fmt.Errorf("send message of type %d: %w", m.Type(), ErrDirection)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	frame, err := appendFrame(c.out[:0], m)
	defer clear(frame)
	if err != nil {
		return fmt.Errorf("send message of type %d: %w", m.Type(), err)
	}
	if c.ledger != nil {
		c.ledger.ask(m.Type())
	}
	if _, err := c.w.Write(frame); err != nil {
		return fmt.Errorf("send message of type %d: %w", m.Type(), err)
	}
	return nil
}

// appendFrame appends all of a message that fits in a frame.
func appendFrame(dst []byte, m Message) ([]byte, error) {
	start := len(dst)
	dst = m.appendBody(append(dst, 0, 0, 0, 0, byte(m.Type())))
	body := len(dst) - start - headSize
	if body > maxBody(m.Type()) {
		return dst, fmt.Errorf("body of %d bytes is too long", body)
	}
	big.PutUint32(dst[start:], uint32(body+1))
	return dst, nil
}

// Receive reads one message. One goroutine at a time may call it. The error is io.EOF
// if the other side closed the pipe between two messages. After any error the
// conversation is over.
func (c *Conn) Receive() (Message, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("receive message: %w", err)
	}
	t := Type(head[4])
	length := big.Uint32(head[:4])
	if length == 0 || length > maxFrame || int(length)-1 > maxBody(t) {
		return nil, fmt.Errorf("receive message of type %d: bad length %d", t, length)
	}
	if err := c.permit(t); err != nil {
		return nil, fmt.Errorf("receive message of type %d: %w", t, err)
	}
	return c.body(t, int(length)-1)
}

// permit refuses what the other side may not send, and anything but exactly one Hello
// before all else; from a child also what it was not asked for, or too much.
func (c *Conn) permit(t Type) error {
	hello := t == TypeHello
	if !maySend(c.role.other(), t) || hello == c.greeted {
		return ErrDirection
	}
	c.greeted = true
	if c.ledger == nil {
		return nil
	}
	return c.ledger.admit(t)
}

// body reads and parses n bytes, and wipes the buffer they were in.
func (c *Conn) body(t Type, n int) (Message, error) {
	if cap(c.in) < n {
		c.in = make([]byte, n)
	}
	p := c.in[:n]
	defer clear(p)
	if _, err := io.ReadFull(c.r, p); err != nil {
		return nil, fmt.Errorf("receive message of type %d: %w", t, errors.Join(io.ErrUnexpectedEOF, err))
	}
	return parse(t, p)
}
