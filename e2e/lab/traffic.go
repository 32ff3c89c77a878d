package lab

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	// sendBuffer bounds what a transfer has on its way, in bytes, below what the queue
	// of a tunnel device holds: a TCP stream then never fills that queue, and a packet
	// that is lost beside it was lost by the tunnel.
	sendBuffer = 192 << 10

	// blockSize is the unit in which a transfer makes and hashes its content.
	blockSize = 64 << 10
)

// Transfer is one finished TCP transfer, as both ends saw it.
type Transfer struct {
	Bytes                int64
	Took                 time.Duration
	SentHash, ReadHash   [sha256.Size]byte
	SentBytes, ReadBytes int64
}

// Rate returns the speed in Mbit/s.
func (t Transfer) Rate() float64 {
	return float64(t.Bytes) * 8 / t.Took.Seconds() / 1e6
}

// Check returns an error unless what was read is what was sent.
func (t Transfer) Check() error {
	if t.ReadBytes != t.Bytes || t.SentBytes != t.Bytes {
		return fmt.Errorf("transfer: %d bytes wanted, %d sent, %d read", t.Bytes, t.SentBytes, t.ReadBytes)
	}
	if t.SentHash != t.ReadHash {
		return fmt.Errorf("transfer: sent %x, read %x", t.SentHash[:8], t.ReadHash[:8])
	}
	return nil
}

// Send moves bytes over one TCP connection from a program on node n to a program on
// node to, which listens on the given address, and returns what both saw. It may run
// in a goroutine of its own, and stops when ctx ends.
func (n *Node) Send(ctx context.Context, to *Node, address netip.Addr, bytes int64) (Transfer, error) {
	listener, err := to.listen(address)
	if err != nil {
		return Transfer{}, err
	}
	defer func() { _ = listener.Close() }()
	t := Transfer{Bytes: bytes}
	received := make(chan error, 1) // one result, also when the sender failed first
	go func() {                     // ends when the connection or the listener does
		received <- t.receive(ctx, listener)
	}()
	start := time.Now()
	if err := t.send(ctx, n, listener.Addr().String()); err != nil {
		_ = listener.Close()
		return t, errors.Join(err, <-received)
	}
	err = <-received
	t.Took = time.Since(start)
	return t, errors.Join(err, t.Check())
}

func (t *Transfer) send(ctx context.Context, from *Node, address string) error {
	conn, err := from.Dial(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.(*net.TCPConn).SetWriteBuffer(sendBuffer); err != nil {
		return err
	}
	sum := sha256.New()
	block := content()
	for t.SentBytes < t.Bytes {
		// Every block differs from every other, so that none can stand for another.
		binary.BigEndian.PutUint64(block, uint64(t.SentBytes))
		chunk := block[:min(blockSize, t.Bytes-t.SentBytes)]
		sum.Write(chunk)
		written, err := conn.Write(chunk)
		t.SentBytes += int64(written)
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	sum.Sum(t.SentHash[:0])
	return nil
}

func (t *Transfer) receive(ctx context.Context, listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	sum := sha256.New()
	t.ReadBytes, err = io.CopyBuffer(struct{ hash.Hash }{sum}, struct{ io.Reader }{conn}, make([]byte, blockSize))
	sum.Sum(t.ReadHash[:0])
	return err
}

// content returns a block of bytes that do not compress or repeat.
func content() []byte {
	block := make([]byte, 0, blockSize)
	sum := sha256.Sum256([]byte(namePrefix))
	for len(block) < blockSize {
		block = append(block, sum[:]...)
		sum = sha256.Sum256(sum[:])
	}
	return block
}

// Dial opens a TCP connection from the node.
func (n *Node) Dial(ctx context.Context, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		dialer := net.Dialer{Timeout: Patience}
		dialer.SetMultipathTCP(false)
		conn, err = dialer.DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// listen opens a TCP listener on the node, on a free port.
func (n *Node) listen(address netip.Addr) (net.Listener, error) {
	var listener net.Listener
	err := n.Do(func() (err error) {
		config := net.ListenConfig{}
		config.SetMultipathTCP(false)
		listener, err = config.Listen(context.Background(), "tcp", netip.AddrPortFrom(address, 0).String())
		return err
	})
	return listener, err
}

// Conversation is an open TCP connection between two nodes, on which one side says
// something and the other repeats it.
type Conversation struct {
	conn net.Conn
	said uint64
}

// Converse opens a conversation from the node with a program on another one.
func (n *Node) Converse(with *Node, address netip.Addr) *Conversation {
	n.lab.tb.Helper()
	listener, err := with.listen(address)
	if err != nil {
		n.lab.tb.Fatalf("node %s: %v", with.Name, err)
	}
	go func() { // ends with the connection, or with the listener when there is none
		conn, err := listener.Accept()
		if err == nil {
			_, _ = io.Copy(struct{ io.Writer }{conn}, conn)
			_ = conn.Close()
		}
	}()
	conn, err := n.Dial(n.lab.tb.Context(), listener.Addr().String())
	if err != nil {
		_ = listener.Close()
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	n.lab.tb.Cleanup(func() {
		_ = conn.Close()
		_ = listener.Close()
	})
	return &Conversation{conn: conn}
}

// Say sends the next number and waits for its echo until the limit; the kernel keeps
// trying meanwhile. A number that was said once is never said again.
func (c *Conversation) Say(limit time.Duration) error {
	c.said++
	if err := c.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	message := binary.BigEndian.AppendUint64(nil, c.said)
	if _, err := c.conn.Write(message); err != nil {
		return err
	}
	answer := make([]byte, len(message))
	if _, err := io.ReadFull(c.conn, answer); err != nil {
		return err
	}
	if got := binary.BigEndian.Uint64(answer); got != c.said {
		return fmt.Errorf("said %d, heard %d", c.said, got)
	}
	return nil
}

// SendUDP sends datagrams from a port of the node to an address.
func (n *Node) SendUDP(to netip.AddrPort, datagrams [][]byte) error {
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = net.Dial("udp", to.String())
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, datagram := range datagrams {
		// A refused send is the answer to an earlier one; the datagram goes out anew.
		if _, err := conn.Write(datagram); err != nil {
			if _, err = conn.Write(datagram); err != nil {
				return err
			}
		}
	}
	return nil
}
