package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pingInterval is the distance between the echo requests of a running Ping.
	pingInterval = 9 * time.Millisecond

	// echoSize is the length of an echo request: the header of ICMP, and 56 bytes.
	echoSize = 8 + 56

	echoRequest4, echoReply4 = 8, 0     // types of ICMP
	echoRequest6, echoReply6 = 128, 129 // types of ICMPv6
)

// Ping is a running ping of at least 100 requests a second. It is no ping(8), which spins
// between two requests that are so close and takes the processor from what is measured.
type Ping struct {
	series
	node   *Node
	conn   *net.IPConn
	to     *net.IPAddr
	cookie uint64 // tells its replies from those of others
	stop   chan struct{}
	halt   func()
	began  []time.Time // when each request was sent
}

// StartPing begins to ping an address 100 times a second, once it answers at all, and returns
// when the first answer is there.
func (n *Node) StartPing(address string) *Ping {
	n.lab.tb.Helper()
	Until(n.lab.tb, Patience, address+" answers "+n.Name, func() bool { return n.Answers(address) })
	p := n.StartPingLater(address)
	Until(n.lab.tb, Patience, "first answer of "+address+" to "+n.Name, func() bool { return p.Replies() > 0 })
	return p
}

// StartPingLater is StartPing for an address that does not answer yet.
func (n *Node) StartPingLater(address string) *Ping {
	n.lab.tb.Helper()
	ip := netip.MustParseAddr(address)
	p := &Ping{node: n, to: &net.IPAddr{IP: ip.AsSlice()}, cookie: rand.Uint64(), stop: make(chan struct{})}
	err := n.Do(func() (err error) {
		p.conn, err = listenEcho(ip)
		return err
	})
	if err != nil {
		n.lab.tb.Fatalf("node %s: ping: %v", n.Name, err)
	}
	var running sync.WaitGroup
	running.Go(p.send)    // ends with stop
	running.Go(p.receive) // ends with the socket
	p.halt = sync.OnceFunc(func() {
		close(p.stop)
		_ = p.conn.Close()
		running.Wait()
	})
	n.lab.tb.Cleanup(p.halt)
	return p
}

// listenEcho opens a socket for ICMP of an address's version.
func listenEcho(ip netip.Addr) (*net.IPConn, error) {
	network := "ip4:icmp"
	if ip.Is6() {
		network = "ip6:ipv6-icmp"
	}
	conn, err := net.ListenIP(network, nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		failed := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
		})
		err = errors.Join(failed, err)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// send sends requests until stop.
func (p *Ping) send() {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for {
		p.mu.Lock()
		p.sent++
		seq := p.sent
		p.began = append(p.began, time.Now())
		p.mu.Unlock()
		_, err := p.conn.WriteToIP(p.request(seq), p.to)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.mu.Lock()
			p.note(fmt.Sprintf("request %d: %v", seq, err))
			p.mu.Unlock()
		}
		select {
		case <-ticker.C:
		case <-p.stop:
			return
		}
	}
}

// request returns an echo request with a number, which is told in the data: that of ICMP has
// 16 bits only.
func (p *Ping) request(seq int) []byte {
	message := make([]byte, echoSize)
	message[0] = echoRequest4
	if p.to.IP.To4() == nil {
		message[0] = echoRequest6 // the kernel makes the checksum
	}
	binary.BigEndian.PutUint16(message[4:], uint16(p.cookie))
	binary.BigEndian.PutUint16(message[6:], uint16(seq))
	binary.BigEndian.PutUint64(message[8:], p.cookie)
	binary.BigEndian.PutUint64(message[16:], uint64(seq))
	if message[0] == echoRequest4 {
		binary.BigEndian.PutUint16(message[2:], ^fold(onesComplement(message)))
	}
	return message
}

// receive notes replies until the socket is closed.
func (p *Ping) receive() {
	buffer := make([]byte, 1<<16)
	for {
		size, _, err := p.conn.ReadFromIP(buffer)
		now := time.Now()
		switch {
		case err == nil:
			p.take(buffer[:size], now)
		case errors.Is(err, os.ErrClosed), errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.EINTR):
		default:
			p.mu.Lock()
			p.note(fmt.Sprintf("receive: %v", err))
			p.mu.Unlock()
		}
	}
}

// take notes a message if it is a reply to this ping.
func (p *Ping) take(message []byte, now time.Time) {
	want := byte(echoReply4)
	if p.to.IP.To4() == nil {
		want = echoReply6
	}
	if len(message) != echoSize || message[0] != want || binary.BigEndian.Uint64(message[8:]) != p.cookie {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	seq := int(binary.BigEndian.Uint64(message[16:]))
	if seq < 1 || seq > len(p.began) {
		p.note(fmt.Sprintf("reply to request %d, which was not sent", seq))
		return
	}
	p.replies = append(p.replies, reply{seq: seq, at: now, took: now.Sub(p.began[seq-1])})
}

// Sent returns how many requests were sent so far, or are about to be.
func (p *Ping) Sent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// Replies returns how many answers came so far.
func (p *Ping) Replies() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.replies)
}

// Stop ends the ping and returns the result. What counts are the requests up to one that is
// answered and was sent from now on: those behind it may be on their way still. Where none is
// answered any more, all that were sent count.
func (p *Ping) Stop() PingResult {
	p.node.lab.tb.Helper()
	last, caughtUp := p.catchUp()
	p.halt()
	if !caughtUp {
		last = p.sent
	}
	return p.result(last)
}

// catchUp waits until a request is answered that was sent from now on, and returns which.
func (p *Ping) catchUp() (last int, ok bool) {
	start := time.Now()
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for ; time.Since(start) < Patience; <-ticker.C {
		newest, answered := p.newest()
		if answered && newest.at.Add(-newest.took).After(start) {
			return newest.seq, true
		}
	}
	return 0, false
}

// newest returns the answer that came last.
func (p *Ping) newest() (newest reply, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.replies) == 0 {
		return reply{}, false
	}
	return p.replies[len(p.replies)-1], true
}
