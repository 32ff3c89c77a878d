package segment_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"tund/internal/segment"
)

// The slow and obvious version of everything: packets are written from nothing, one
// field after the other, and a super-packet is split by copying.

const (
	fin, syn, rst, psh, ack, urg, ece, cwr = 1, 2, 4, 8, 16, 32, 64, 128
)

// spec describes a super-packet and the packets that it is made of.
type spec struct {
	mode       segment.Mode
	vlans      int
	v6, udp    bool
	tos, ttl   byte
	id         uint16
	df         bool
	ipOptions  []byte // IPv4: a multiple of 4
	extensions []byte // IPv6: whole headers; the next header fields are filled in
	kinds      []byte // of the extensions
	final      []byte // IPv6: the true destination, where a routing header hides it
	tcpOptions []byte
	seq, ack   uint32
	flags      byte
	window     uint16
	urgent     uint16
	reserved   byte // four bits beside the length of the TCP header; the last one is AE
	size       int
	payload    []byte
}

func (s spec) protocol() byte {
	if s.udp {
		return 17
	}
	return 6
}

// addresses returns source, destination, and the destination that the checksum is for.
func (s spec) addresses() (source, destination, final []byte) {
	if !s.v6 {
		return []byte{10, 1, 0, 1}, []byte{10, 2, 0, 2}, []byte{10, 2, 0, 2}
	}
	source = []byte{0xfd, 0, 0, 1, 15: 1}
	destination = []byte{0xfd, 0, 0, 2, 15: 2}
	if s.final != nil {
		return source, destination, s.final
	}
	return source, destination, destination
}

// packet writes one packet with its checksum complete, or partial.
func (s spec) packet(payload []byte, id uint16, seq uint32, flags byte, partial bool) []byte {
	transport := s.transport(payload, seq, flags)
	source, destination, final := s.addresses()
	at := 16
	if s.udp {
		at = 6
	}
	sum := slowSum(source) + slowSum(final) + uint32(s.protocol()) + uint32(len(transport))
	if !partial {
		sum = uint32(^slowFold(sum + slowSum(transport)))
		if sum == 0 && s.udp {
			sum = 0xffff
		}
	}
	binary.BigEndian.PutUint16(transport[at:], slowFold(sum))
	var p []byte
	if s.mode == segment.TAP {
		p = s.ethernet()
	}
	if s.v6 {
		return append(append(p, s.ipv6(len(transport), source, destination)...), transport...)
	}
	return append(append(p, s.ipv4(len(transport), id, source, destination)...), transport...)
}

func (s spec) transport(payload []byte, seq uint32, flags byte) []byte {
	var p []byte
	p = binary.BigEndian.AppendUint16(p, 4242)
	p = binary.BigEndian.AppendUint16(p, 2424)
	if s.udp {
		p = binary.BigEndian.AppendUint16(p, uint16(8+len(payload)))
		p = append(p, 0, 0)
		return append(p, payload...)
	}
	p = binary.BigEndian.AppendUint32(p, seq)
	p = binary.BigEndian.AppendUint32(p, s.ack)
	p = append(p, byte(20+len(s.tcpOptions))/4<<4|s.reserved, flags)
	p = binary.BigEndian.AppendUint16(p, s.window)
	p = append(p, 0, 0)
	p = binary.BigEndian.AppendUint16(p, s.urgent)
	p = append(p, s.tcpOptions...)
	return append(p, payload...)
}

func (s spec) ethernet() []byte {
	p := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	if s.vlans == 2 {
		p = append(p, 0x88, 0xa8, 0, 7)
	}
	if s.vlans > 0 {
		p = append(p, 0x81, 0, 0, 9)
	}
	if s.v6 {
		return append(p, 0x86, 0xdd)
	}
	return append(p, 8, 0)
}

func (s spec) ipv4(rest int, id uint16, source, destination []byte) []byte {
	header := 20 + len(s.ipOptions)
	p := []byte{byte(0x40 | header/4), s.tos}
	p = binary.BigEndian.AppendUint16(p, uint16(header+rest))
	p = binary.BigEndian.AppendUint16(p, id)
	if s.df {
		p = append(p, 0x40, 0)
	} else {
		p = append(p, 0, 0)
	}
	p = append(p, s.ttl, s.protocol(), 0, 0)
	p = append(append(append(p, source...), destination...), s.ipOptions...)
	binary.BigEndian.PutUint16(p[10:], ^slowFold(slowSum(p)))
	return p
}

func (s spec) ipv6(rest int, source, destination []byte) []byte {
	p := []byte{0x60 | s.tos>>4, s.tos << 4, 0x12, 0x34}
	p = binary.BigEndian.AppendUint16(p, uint16(len(s.extensions)+rest))
	chain := append(append([]byte{}, s.kinds...), s.protocol())
	p = append(p, chain[0], s.ttl)
	p = append(append(p, source...), destination...)
	extensions := append([]byte{}, s.extensions...)
	for i, at := 1, 0; at < len(extensions); i++ {
		extensions[at] = chain[i]
		at += 8 + 8*int(extensions[at+1])
	}
	return append(p, extensions...)
}

// headers is the length of all headers of a packet.
func (s spec) headers() int { return len(s.packet(nil, 0, 0, 0, true)) }

// super returns the super-packet as a kernel hands it over.
func (s spec) super() (segment.VirtioHeader, []byte) {
	transport, offset := len(s.tcpOptions)+20, 16
	kind := segment.GSOTCPv4
	switch {
	case s.udp:
		transport, offset, kind = 8, 6, segment.GSOUDP
	case s.v6:
		kind = segment.GSOTCPv6
	}
	if s.flags&cwr != 0 && !s.udp {
		kind |= segment.GSOECN
	}
	return segment.VirtioHeader{
		Flags: segment.NeedsCsum, Type: kind, HeaderLen: uint16(s.headers()), Size: uint16(s.size),
		ChecksumStart: uint16(s.headers() - transport), ChecksumOffset: uint16(offset),
	}, s.packet(s.payload, s.id, s.seq, s.flags, true)
}

// segments returns the packets that the super-packet stands for.
func (s spec) segments(partial bool) [][]byte {
	var packets [][]byte
	for from := 0; from < len(s.payload); from += s.size {
		to := min(from+s.size, len(s.payload))
		flags := s.flags
		if from > 0 {
			flags &^= cwr
		}
		if to < len(s.payload) {
			flags &^= psh | fin
		}
		id := s.id + uint16(len(packets))
		packets = append(packets, s.packet(s.payload[from:to], id, s.seq+uint32(from), flags, partial))
	}
	return packets
}

// locatable reports whether a partial checksum may cross the tunnel.
func (s spec) locatable() bool { return len(s.kinds) == 0 }

func slowSum(p []byte) uint32 {
	var sum uint32
	for i, b := range p {
		if i%2 == 0 {
			sum += uint32(b) << 8
		} else {
			sum += uint32(b)
		}
		sum = sum&0xffff + sum>>16
	}
	return sum
}

func slowFold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// slowSplit splits whatever a device may take, all checksums complete.
func slowSplit(mode segment.Mode, h segment.VirtioHeader, packet []byte) [][]byte {
	if h.Type == segment.GSONone {
		p := append([]byte{}, packet...)
		if h.Flags&segment.NeedsCsum != 0 {
			slowComplete(p, h)
		}
		return [][]byte{p}
	}
	network := 0
	if mode == segment.TAP {
		network = 14
		for packet[network-2] == 0x81 || packet[network-2] == 0x88 {
			network += 4
		}
	}
	transport := int(h.ChecksumStart)
	headers := transport + 8
	if h.Type != segment.GSOUDP {
		headers = transport + int(packet[transport+12]>>4)*4
	}
	base := int(slowFold(uint32(binary.BigEndian.Uint16(packet[transport+int(h.ChecksumOffset):])) +
		uint32(^uint16(len(packet)-transport))))
	var packets [][]byte
	payload := packet[headers:]
	for from := 0; from < len(payload); from += int(h.Size) {
		to := min(from+int(h.Size), len(payload))
		p := append(append([]byte{}, packet[:headers]...), payload[from:to]...)
		binary.BigEndian.PutUint16(p[transport+int(h.ChecksumOffset):], slowFold(uint32(base+len(p)-transport)))
		slowNetwork(p[network:], transport-network, len(packets))
		slowTransport(p[transport:], h, from, to == len(payload))
		slowComplete(p, h)
		packets = append(packets, p)
	}
	return packets
}

func slowNetwork(ip []byte, header, k int) {
	if ip[0]>>4 == 6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		return
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(k))
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^slowFold(slowSum(ip[:header])))
}

func slowTransport(p []byte, h segment.VirtioHeader, from int, last bool) {
	if h.Type == segment.GSOUDP {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)))
		return
	}
	binary.BigEndian.PutUint32(p[4:], binary.BigEndian.Uint32(p[4:])+uint32(from))
	if from > 0 {
		p[13] &^= cwr
	}
	if !last {
		p[13] &^= psh | fin
	}
}

func slowComplete(p []byte, h segment.VirtioHeader) {
	sum := ^slowFold(slowSum(p[h.ChecksumStart:]))
	if sum == 0 && (h.ChecksumOffset == 6 || h.Type == segment.GSONone) {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(p[h.ChecksumStart+h.ChecksumOffset:], sum)
}

// randomSpec returns any super-packet that a kernel may hand over.
func randomSpec(r *rand.Rand) spec {
	s := spec{
		mode: segment.TUN, v6: r.IntN(2) == 0, udp: r.IntN(3) == 0, df: r.IntN(2) == 0,
		tos: byte(r.Uint32()), ttl: byte(1 + r.IntN(255)), id: uint16(r.Uint32()),
		seq: r.Uint32(), ack: r.Uint32(), window: uint16(r.Uint32()), flags: ack,
	}
	if r.IntN(8) == 0 {
		s.id, s.seq = 0xfffe, 0xfffffff0
	}
	if r.IntN(2) == 0 {
		s.mode = segment.TAP
		s.vlans = r.IntN(3)
	}
	for _, flag := range []byte{psh, fin, ece, cwr} {
		if r.IntN(4) == 0 {
			s.flags |= flag
		}
	}
	s.tcpOptions = randomBytes(r, 4*r.IntN(11))
	if r.IntN(2) == 0 {
		s.tcpOptions = append([]byte{1, 1, 8, 10}, randomBytes(r, 8)...)
	}
	s.extend(r)
	s.size = 1 + r.IntN(1500)
	length := 1 + r.IntN(min(20000, 70*s.size))
	if r.IntN(4) == 0 {
		length = s.size * (1 + r.IntN(20)) // no odd tail
	}
	s.payload = randomBytes(r, length)
	if r.IntN(8) == 0 {
		s.flags |= urg
		s.urgent = uint16(r.Uint32())
	}
	if r.IntN(4) == 0 {
		s.reserved = byte(r.IntN(16))
	}
	return s
}

// extend adds options and extension headers to one in four.
func (s *spec) extend(r *rand.Rand) {
	if r.IntN(4) != 0 {
		return
	}
	if !s.v6 {
		s.ipOptions = randomBytes(r, 4*(1+r.IntN(10)))
		return
	}
	for range 1 + r.IntN(3) {
		kind := []byte{0, 43, 60}[r.IntN(3)]
		length := r.IntN(4)
		extension := randomBytes(r, 8+8*length)
		extension[1] = byte(length)
		switch kind {
		case 0: // a bridge with packet filters looks into it: PadN
			extension[2], extension[3] = 1, byte(len(extension)-4)
			clear(extension[4:])
		case 43:
			s.final = randomBytes(r, 16)
		}
		s.kinds = append(s.kinds, kind)
		s.extensions = append(s.extensions, extension...)
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// random returns a source that is the same in each run, and says so on failure.
func random(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seed, 1))
}
