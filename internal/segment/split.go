package segment

import (
	"encoding/binary"
	"errors"
)

// Errors of [Splitter.Begin]: the kernel handed over a packet whose two headers, the
// virtio header and its own, do not fit each other. They have no detail, as the
// packet is only counted.
var (
	ErrChecksum    = errors.New("segment: no checksum where the virtio header says")
	ErrSuperPacket = errors.New("segment: super-packet of another form than its virtio header says")
)

// maxHeaders bounds the headers of a super-packet. Only IPv6 extension headers can be
// as long.
const maxHeaders = 1024

// TCP flags.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
	flagECE
	flagCWR
)

// Splitter makes datagram-sized packets of one packet after the other from the device.
// The zero value is ready. It is used by one goroutine and does not allocate.
//
// After Begin, Next is called until it is false. See the package's comment for
// what happens to the buffer on the way.
type Splitter struct {
	packet []byte
	layout
	size, count, next int
	rewrite           bool // segments get headers of their own
	partial, complete bool

	base   uint64 // of the pseudo-header without length
	ipBase uint64 // of the IPv4 header without length, identification and checksum
	id     uint16 // of the first
	seq    uint32 // of the first
	flags  byte   // of the super-packet

	header [maxHeaders]byte // of the super-packet
}

// Begin takes a packet or frame as the device gave it, without the virtio header. The
// packet belongs to the Splitter until Next is false or Begin is called again; its
// bytes are changed.
//
// With partial the peer takes packets with a partial checksum, and they keep it where the
// peer would find and make the same; see [Splitter.Partial]. All other partial
// checksums are completed. After an error there is nothing to split.
func (s *Splitter) Begin(mode Mode, h VirtioHeader, packet []byte, partial bool) error {
	s.packet = packet
	s.next, s.count = 0, 0
	s.rewrite, s.partial, s.complete = false, false, false
	if h.Type != GSONone {
		return s.beginSuper(mode, h, partial)
	}
	s.size, s.count = len(packet), 1
	s.payload = 0
	if h.Flags&NeedsCsum == 0 {
		return nil
	}
	return s.beginSingle(mode, h, partial)
}

// beginSingle is for a packet that is not to be split and has a partial checksum.
func (s *Splitter) beginSingle(mode Mode, h VirtioHeader, partial bool) error {
	start, at := int(h.ChecksumStart), int(h.ChecksumStart)+int(h.ChecksumOffset)
	if at+2 > len(s.packet) {
		s.count = 0
		return ErrChecksum
	}
	if partial {
		l, ok := locate(mode, s.packet)
		s.partial = ok && l.transport == start && l.sum() == at && s.reproducible(l)
	}
	if !s.partial {
		s.complete = true
		storeSum(s.packet[at:], notZero(^fold(add(0, s.packet[start:]))))
	}
	return nil
}

// reproducible reports whether the partial checksum is the one that the receiver will
// put in its place. It is not, for instance, if a source route hides the destination.
func (s *Splitter) reproducible(l layout) bool {
	want := fold(plus(pseudo(s.packet, l), word(len(s.packet)-l.transport)))
	return loadSum(s.packet[l.sum():]) == want
}

// notZero is for a checksum field in which zero means that there is no checksum. The kernel
// treats every single packet so, also TCP, where both mean the same.
func notZero(sum uint16) uint16 {
	if sum == 0 {
		return 0xffff
	}
	return sum
}

// beginSuper is for a packet that is to be split.
func (s *Splitter) beginSuper(mode Mode, h VirtioHeader, partial bool) error {
	l, located := locate(mode, s.packet)
	if h.Flags&NeedsCsum == 0 {
		if h.Flags&DataValid == 0 || !located {
			return ErrChecksum
		}
		writePseudo(s.packet, l) // the sum that somebody verified is of no more use
		h.ChecksumStart, h.ChecksumOffset = uint16(l.transport), uint16(l.sumOffset())
	}
	ok := located
	if !ok {
		l, ok = locateBehindExtensions(mode, s.packet, int(h.ChecksumStart))
	}
	if !ok || h.Type.kind() != l.gsoType() || h.Size == 0 || l.payload == len(s.packet) || l.payload > maxHeaders {
		return ErrSuperPacket
	}
	if l.transport != int(h.ChecksumStart) || l.sumOffset() != int(h.ChecksumOffset) {
		return ErrChecksum
	}
	s.layout = l
	s.size = int(h.Size)
	s.count = (len(s.packet) - l.payload + s.size - 1) / s.size
	s.rewrite = true
	s.partial = partial && located && s.reproducible(l)
	s.complete = !s.partial
	s.keepHeaders()
	return nil
}

// gsoType is how a super-packet of this form is called.
func (l layout) gsoType() GSOType {
	switch {
	case l.protocol == protocolUDP:
		return GSOUDP
	case l.v6:
		return GSOTCPv6
	default:
		return GSOTCPv4
	}
}

// keepHeaders takes from the headers what the segments' headers are made of.
func (s *Splitter) keepHeaders() {
	h := s.header[:s.payload]
	copy(h, s.packet)
	// As the kernel does, take the pseudo-header from the field, not from the addresses:
	// with a routing header the destination is another.
	length := word(len(s.packet) - s.transport)
	s.base = plus(uint64(loadSum(h[s.sum():])), ^length&0xffff)
	storeSum(h[s.sum():], 0)
	if !s.v6 {
		ip := h[s.network:s.transport]
		s.id = binary.BigEndian.Uint16(ip[4:])
		clear(ip[2:6])
		clear(ip[10:12])
		s.ipBase = add(0, ip)
	}
	if s.protocol == protocolTCP {
		s.seq = binary.BigEndian.Uint32(h[s.transport+4:])
		s.flags = h[s.transport+13]
	}
}

// Count is the number of segments that Begin found.
func (s *Splitter) Count() int { return s.count }

// HeaderSize is the length of the headers that each segment has of its own. It is 0 for a
// packet that is not split.
func (s *Splitter) HeaderSize() int { return s.payload }

// Partial reports whether the transport checksum of each segment is partial, and may be
// sent so.
func (s *Splitter) Partial() bool { return s.partial }

// Completed reports whether a partial checksum had to be completed here, with all
// payload passing through the processor once more.
func (s *Splitter) Completed() bool { return s.complete }

// Next puts the headers of the next segment in front of its payload, over the end of the
// segment before, which therefore must not be needed any more. The segment is a part
// of the packet that Begin was given. It is false when there is none left.
func (s *Splitter) Next() ([]byte, bool) {
	if s.next == s.count {
		return nil, false
	}
	p, payload := s.place()
	if s.rewrite {
		copy(p, s.header[:s.payload])
		s.adaptHeaders(p[:s.payload], payload)
	}
	s.next++
	return p, true
}

// NextAside is Next for who seals several segments in one call: it leaves the packet as it
// is, appends the headers to dst, and returns the longer slice. Before the segment is
// sealed, and after those before it were, they must be copied to its beginning:
// HeaderSize bytes.
func (s *Splitter) NextAside(dst []byte) (headers, segment []byte, ok bool) {
	if s.next == s.count {
		return dst, nil, false
	}
	p, payload := s.place()
	if s.rewrite {
		dst = append(dst, s.header[:s.payload]...)
		s.adaptHeaders(dst[len(dst)-s.payload:], payload)
	}
	s.next++
	return dst, p, true
}

// place returns where the next segment lies, and its payload.
func (s *Splitter) place() (segment, payload []byte) {
	from := s.next * s.size
	to := min(from+s.payload+s.size, len(s.packet))
	return s.packet[from:to:to], s.packet[from+s.payload : to]
}

// adaptHeaders makes h, a copy of header, the headers of the next segment.
func (s *Splitter) adaptHeaders(h, payload []byte) {
	length := len(h) + len(payload)
	s.writeNetwork(h[s.network:], length-s.network)
	length -= s.transport
	transport := h[s.transport:]
	if s.protocol == protocolTCP {
		s.writeTCP(transport)
	} else {
		binary.BigEndian.PutUint16(transport[4:], uint16(length))
	}
	sum := fold(plus(s.base, word(length)))
	field := h[s.sum():]
	if s.complete {
		sum = ^fold(add(add(uint64(sum), transport), payload))
		if s.protocol == protocolUDP {
			sum = notZero(sum)
		}
	}
	storeSum(field, sum)
}

// writeNetwork writes what differs in the network header of a packet of this length.
func (s *Splitter) writeNetwork(h []byte, length int) {
	if s.v6 {
		binary.BigEndian.PutUint16(h[4:], uint16(length-ipv6Size))
		return
	}
	id := s.id + uint16(s.next)
	binary.BigEndian.PutUint16(h[2:], uint16(length))
	binary.BigEndian.PutUint16(h[4:], id)
	storeSum(h[10:], ^fold(plus(plus(s.ipBase, word(length)), word(int(id)))))
}

// writeTCP writes what differs in the TCP header: PSH and FIN stand in the last segment
// only, CWR in the first.
func (s *Splitter) writeTCP(h []byte) {
	binary.BigEndian.PutUint32(h[4:], s.seq+uint32(s.next*s.size))
	flags := s.flags
	if s.next > 0 {
		flags &^= flagCWR
	}
	if s.next < s.count-1 {
		flags &^= flagPSH | flagFIN
	}
	h[13] = flags
}
