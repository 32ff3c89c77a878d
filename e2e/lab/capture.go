package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ethernetHeader = 14
	udpHeader      = 8
	etherTypeIPv4  = 0x0800
	etherTypeIPv6  = 0x86dd

	virtioHeader = 10 // struct virtio_net_hdr, linux/virtio_net.h
	virtioUDP    = 5  // its gso_type for UDP datagrams in one piece

	// HeaderSize is that of a data datagram: type and flags, index, packet number.
	HeaderSize = 12
	// TagSize is that of the authentication tag at its end.
	TagSize = 16
)

// Segment is one UDP datagram, or one TCP segment with content, seen on a wire.
type Segment struct {
	At           time.Time
	Source, Dest netip.AddrPort
	Protocol     byte // unix.IPPROTO_UDP or unix.IPPROTO_TCP
	Sequence     uint32
	Payload      []byte

	// Frame is the whole Ethernet frame. Its checksums may be unfinished.
	Frame []byte
}

// Index returns the index in the header of a data datagram.
func (s Segment) Index() uint32 { return binary.BigEndian.Uint32(s.Payload) & 0xffffff }

// IsData reports whether a segment is a datagram of the data channel, by its ports and
// its first byte: DATA or PROBE.
func (s Segment) IsData() bool {
	return s.Protocol == unix.IPPROTO_UDP && (s.Source.Port() == Port || s.Dest.Port() == Port) &&
		len(s.Payload) >= HeaderSize+TagSize && (s.Payload[0]>>4 == 1 || s.Payload[0]>>4 == 2)
}

// Number returns the packet number in the header of a data datagram.
func (s Segment) Number() uint64 { return binary.BigEndian.Uint64(s.Payload[4:]) }

// Capture records what passes one interface of a node.
type Capture struct {
	node *Node
	fd   int
	done chan error

	mu       sync.Mutex
	stopping bool
	segments []Segment
}

// Capture begins to record the UDP datagrams and TCP segments on an interface, in
// both directions.
func (n *Node) Capture(device string) *Capture {
	n.lab.tb.Helper()
	c := &Capture{node: n, done: make(chan error, 1)} // one result of read
	err := n.Do(func() (err error) {
		if c.fd, err = packetSocket(device, unix.ETH_P_ALL); err != nil {
			return err
		}
		return unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	})
	if err != nil {
		n.lab.tb.Fatalf("node %s: capture on %s: %v", n.Name, device, err)
	}
	go func() { // ends after Stop, within the receive timeout
		c.done <- c.read()
	}()
	n.lab.tb.Cleanup(func() { _ = c.halt() })
	return c
}

// packetSocket returns a packet socket on a device, of which reads give up after a
// short while. It must be called inside the namespace.
func packetSocket(device string, protocol uint16) (int, error) {
	iface, err := net.InterfaceByName(device)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: iface.Index}),
	)
}

// read records until Stop was called and nothing more is queued.
func (c *Capture) read() error {
	defer func() { _ = unix.Close(c.fd) }()
	buffer := make([]byte, 1<<17)
	for {
		size, _, err := unix.Recvfrom(c.fd, buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if c.isStopping() {
				return c.overflow()
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		default:
			c.record(buffer[:size])
		}
	}
}

// overflow returns an error if the kernel had no room for something that passed.
func (c *Capture) overflow() error {
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return err
	}
	if stats.Drops > 0 {
		return fmt.Errorf("capture missed %d frames", stats.Drops)
	}
	return nil
}

func (c *Capture) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// record takes what the socket gave: a virtio-net header, then a frame. A frame that
// stands for several datagrams (UDP_SEGMENT) is recorded as what it will be cut into.
func (c *Capture) record(data []byte) {
	if len(data) < virtioHeader {
		return
	}
	segment, ok := parse(slices.Clone(data[virtioHeader:]))
	if !ok {
		return
	}
	segment.At = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	size := int(binary.NativeEndian.Uint16(data[4:]))
	if data[1] != virtioUDP || size == 0 {
		c.segments = append(c.segments, segment)
		return
	}
	for payload := range slices.Chunk(segment.Payload, size) {
		c.segments = append(c.segments, segment.WithPayload(payload))
	}
}

// Stop ends the recording and returns everything that was seen, in order.
func (c *Capture) Stop() []Segment {
	c.node.lab.tb.Helper()
	if err := c.halt(); err != nil {
		c.node.lab.tb.Fatalf("node %s: %v", c.node.Name, err)
	}
	return c.segments
}

// Seen returns what was recorded so far.
func (c *Capture) Seen() []Segment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.segments)
}

func (c *Capture) halt() error {
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
	err := <-c.done
	c.done <- nil // for a second call
	return err
}

// parse takes an Ethernet frame apart; ok is false unless it holds UDP, or TCP with
// content, directly in IPv4 or IPv6.
func parse(frame []byte) (s Segment, ok bool) {
	transport, protocol := transportOf(frame)
	if transport == 0 || len(frame) < transport+udpHeader {
		return s, false
	}
	source, dest := addresses(frame)
	s = Segment{Protocol: protocol, Frame: frame}
	s.Source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(frame[transport:]))
	s.Dest = netip.AddrPortFrom(dest, binary.BigEndian.Uint16(frame[transport+2:]))
	switch protocol {
	case unix.IPPROTO_UDP:
		s.Payload = frame[transport+udpHeader:]
		return s, true
	case unix.IPPROTO_TCP:
		if len(frame) < transport+20 {
			return s, false
		}
		s.Sequence = binary.BigEndian.Uint32(frame[transport+4:])
		start := transport + int(frame[transport+12]>>4)*4
		if start >= len(frame) {
			return s, false
		}
		s.Payload = frame[start:]
		return s, true
	default:
		return s, false
	}
}

// transportOf returns where the transport header begins and its protocol, or 0. The
// frame is long enough for the addresses then, and is cut to what IP says it holds.
func transportOf(frame []byte) (offset int, protocol byte) {
	if len(frame) < ethernetHeader+20 {
		return 0, 0
	}
	ip := frame[ethernetHeader:]
	kind := binary.BigEndian.Uint16(frame[12:])
	switch {
	case kind == etherTypeIPv4:
		return ethernetHeader + int(ip[0]&15)*4, ip[9]
	case kind == etherTypeIPv6 && len(ip) >= 40:
		return ethernetHeader + 40, ip[6]
	default:
		return 0, 0
	}
}

// addresses returns the IP addresses of a frame that transportOf accepted.
func addresses(frame []byte) (source, dest netip.Addr) {
	ip := frame[ethernetHeader:]
	if ip[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	}
	return netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
}

// WithPayload returns a UDP segment of the same addresses with another payload.
func (s Segment) WithPayload(payload []byte) Segment {
	transport, _ := transportOf(s.Frame)
	frame := slices.Concat(s.Frame[:transport+udpHeader], payload)
	binary.BigEndian.PutUint16(frame[transport+4:], uint16(udpHeader+len(payload)))
	ip := frame[ethernetHeader:transport]
	if ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(frame)-ethernetHeader))
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^fold(onesComplement(ip)))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(udpHeader+len(payload)))
	}
	s.Frame, s.Payload = frame, payload
	return s
}

// Inject puts recorded UDP datagrams on an interface of the node once more, bit for
// bit, from the addresses they came from.
func (n *Node) Inject(device string, segments []Segment) {
	n.lab.tb.Helper()
	err := n.Do(func() error {
		fd, err := packetSocket(device, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		for _, segment := range segments {
			if err := sendFrame(fd, segment); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		n.lab.tb.Fatalf("node %s: inject into %s: %v", n.Name, device, err)
	}
}

// sendFrame sends one frame with its UDP checksum finished, which an interface with
// checksum offload had left to hardware that a veth does not have.
func sendFrame(fd int, segment Segment) error {
	frame := slices.Clone(segment.Frame)
	offset, _ := transportOf(frame)
	finishChecksum(frame, offset)
	for {
		_, err := unix.Write(fd, frame)
		switch {
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
			continue
		default:
			return err
		}
	}
}

// finishChecksum writes the UDP checksum of a frame (RFC 768, RFC 8200 8.1).
func finishChecksum(frame []byte, offset int) {
	udp := frame[offset:]
	binary.BigEndian.PutUint16(udp[6:], 0)
	ip := frame[ethernetHeader:]
	first, last := 8, 40 // the addresses of IPv6
	if ip[0]>>4 == 4 {
		first, last = 12, 20
	}
	sum := fold(onesComplement(ip[first:last]) + onesComplement(udp) + uint32(len(udp)) + unix.IPPROTO_UDP)
	if sum == 0xffff {
		sum = 0 // written as 0xffff: 0 would mean that there is no checksum
	}
	binary.BigEndian.PutUint16(udp[6:], ^sum)
}

// fold brings a sum of 16-bit words into one.
func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func onesComplement(data []byte) (sum uint32) {
	for ; len(data) > 1; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	return sum
}

// Mirrored returns a UDP segment with source and destination exchanged on every layer,
// as one sends it who throws back what he got.
func (s Segment) Mirrored() Segment {
	frame := slices.Clone(s.Frame)
	exchange := func(at, size int) {
		for i := range size {
			frame[at+i], frame[at+size+i] = frame[at+size+i], frame[at+i]
		}
	}
	exchange(0, 6) // Ethernet
	transport, _ := transportOf(frame)
	if frame[ethernetHeader]>>4 == 4 {
		exchange(ethernetHeader+12, 4)
	} else {
		exchange(ethernetHeader+8, 16)
	}
	exchange(transport, 2)
	s.Frame, s.Source, s.Dest = frame, s.Dest, s.Source
	return s
}
