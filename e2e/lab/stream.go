package lab

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// streamBlock is what a stream sends at once, in bytes.
const streamBlock = 16 << 10

// Stream is one TCP connection between two nodes that carries bytes at a steady rate
// until it is stopped.
type Stream struct {
	tb      TB
	conn    net.Conn
	start   time.Time
	stop    chan struct{} // closed to end the sender
	sent    chan sent
	arrived chan arrived
}

// sent and arrived are what the two ends of a stream saw.
type sent struct {
	bytes int64
	hash  [sha256.Size]byte
	err   error
}

type arrived struct {
	bytes int64
	hash  [sha256.Size]byte
	err   error
}

// StreamResult says what became of a stream.
type StreamResult struct {
	Bytes int64
	Took  time.Duration
}

// String returns the result in one line.
func (r StreamResult) String() string {
	return fmt.Sprintf("%d MB in %v, %.0f Mbit/s", r.Bytes>>20, r.Took.Round(time.Millisecond), float64(r.Bytes)*8/1e6/r.Took.Seconds())
}

// StartStream begins a stream from the node to a program on another, which listens on
// the given address, at a rate of so many bytes a second.
func (n *Node) StartStream(to *Node, address netip.Addr, rate int64) *Stream {
	n.lab.tb.Helper()
	listener, err := to.listen(address)
	if err != nil {
		n.lab.tb.Fatalf("node %s: %v", to.Name, err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := n.Dial(n.lab.tb.Context(), listener.Addr().String())
	if err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	n.lab.tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetWriteBuffer(sendBuffer); err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	other, err := listener.Accept()
	if err != nil {
		n.lab.tb.Fatalf("node %s: %v", to.Name, err)
	}
	s := &Stream{
		tb: n.lab.tb, conn: conn, start: time.Now(),
		stop: make(chan struct{}), sent: make(chan sent, 1), arrived: make(chan arrived, 1),
	}
	go func() { s.sent <- s.send(rate) }()         // ends with stop or with the connection
	go func() { s.arrived <- receiveAll(other) }() // ends with the connection
	return s
}

// Stop ends the stream and returns what became of it. It is an error of the test if the
// connection did not last, or if what arrived within the limit is not what was sent.
func (s *Stream) Stop(limit time.Duration) StreamResult {
	s.tb.Helper()
	took := time.Since(s.start)
	close(s.stop)
	timer := time.AfterFunc(limit, func() { _ = s.conn.SetDeadline(time.Now()) })
	defer timer.Stop()
	out := <-s.sent
	in := arrived{err: context.DeadlineExceeded}
	select {
	case in = <-s.arrived:
	case <-time.After(limit):
	}
	if err := errors.Join(out.err, in.err); err != nil {
		s.tb.Errorf("stream: %d bytes sent, %d arrived: %v", out.bytes, in.bytes, err)
	} else if out.bytes != in.bytes || out.hash != in.hash {
		s.tb.Errorf("stream: sent %d bytes, hash %x; %d arrived, hash %x", out.bytes, out.hash[:8], in.bytes, in.hash[:8])
	}
	return StreamResult{Bytes: in.bytes, Took: took}
}

// send writes different blocks, so many bytes a second, until the stream is stopped.
func (s *Stream) send(rate int64) (out sent) {
	defer func() { _ = s.conn.(*net.TCPConn).CloseWrite() }()
	sum := sha256.New()
	block := content()[:streamBlock]
	pace := time.NewTicker(time.Duration(streamBlock * int64(time.Second) / rate))
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
		case <-s.stop:
			sum.Sum(out.hash[:0])
			return out
		}
		binary.BigEndian.PutUint64(block, uint64(out.bytes))
		sum.Write(block)
		written, err := s.conn.Write(block)
		out.bytes += int64(written)
		if err != nil {
			out.err = fmt.Errorf("send: %w", err)
			return out
		}
	}
}

// receiveAll reads from a connection to its end.
func receiveAll(conn net.Conn) (in arrived) {
	defer func() { _ = conn.Close() }()
	sum := sha256.New()
	block := make([]byte, blockSize)
	for {
		n, err := conn.Read(block)
		if errors.Is(err, io.EOF) {
			sum.Sum(in.hash[:0])
			return in
		}
		if err != nil {
			in.err = fmt.Errorf("receive: %w", err)
			return in
		}
		sum.Write(block[:n])
		in.bytes += int64(n)
	}
}
