package segment

import (
	"bytes"
	"encoding/binary"
)

const (
	// MaxSegments is how many packets make one super-packet at most. Older kernels
	// take no more UDP datagrams in one (UDP_MAX_SEGMENTS, now 128).
	MaxSegments = 64
	// MaxSuperPacket is how long a super-packet is at most, from its IP header on.
	MaxSuperPacket = 65535
)

// maxJoined is the length of the longest headers of a packet that is ever joined:
// Ethernet with two tags, IPv6, TCP with all options.
const maxJoined = ethernetSize + 2*vlanSize + ipv6Size + 60

// flow is what a super-packet has in common, and what its next packet must have.
type flow struct {
	layout
	flagged bool // partial checksums
	joins   bool // a packet of a form that can be joined at all
	last    bool // nothing can follow
	proved  bool // the first packet's complete checksum was found right
	flags   byte // of the last packet: TCP only
	id      uint16
	seq     uint32
	size    int // payload of the first packet

	normal [maxJoined]byte // headers, with zeros where packets of a flow differ
}

// parse describes a single packet. located says whether l was found.
func (f *flow) parse(p []byte, l layout, located, flagged bool) {
	f.layout, f.flagged = l, flagged
	f.joins, f.proved = false, false
	f.flags, f.id, f.seq = 0, 0, 0
	f.size = len(p) - l.payload
	if located && f.size > 0 && len(p)-l.network <= MaxSuperPacket {
		f.joins = f.normalise(p)
	}
	f.last = !f.joins || f.flags&(flagPSH|flagFIN) != 0
}

// normalise takes the fields that differ out of the headers. It is false if the packet
// must stay alone, as splitting it off a super-packet would not give it back as it is.
func (f *flow) normalise(p []byte) bool {
	if !f.v6 && (f.transport-f.network != ipv4Size || fold(add(0, p[f.network:f.transport])) != 0xffff) {
		return false
	}
	h := f.normal[:f.payload]
	copy(h, p)
	f.normaliseNetwork(h[f.network:])
	transport := h[f.transport:]
	sum := loadSum(transport[f.sumOffset():])
	storeSum(transport[f.sumOffset():], 0)
	if f.protocol == protocolUDP {
		clear(transport[4:6])
		return sum != 0 || f.flagged
	}
	f.normaliseTCP(transport)
	const alone = flagSYN | flagRST | flagURG | flagCWR
	// No sender computes a sum of 0xffff, but it would verify.
	return f.flags&(alone|flagACK) == flagACK && (sum != 0xffff || f.flagged)
}

func (f *flow) normaliseNetwork(h []byte) {
	if f.v6 {
		clear(h[4:6])
		return
	}
	f.id = binary.BigEndian.Uint16(h[4:])
	clear(h[2:6])
	clear(h[10:12])
}

func (f *flow) normaliseTCP(h []byte) {
	f.seq = binary.BigEndian.Uint32(h[4:])
	f.flags = h[13]
	clear(h[4:8])
	h[13] &^= flagPSH | flagFIN
}

// continues reports whether next may follow count packets of f that end at length, from
// the IP header on. It does not look at complete checksums.
func (f *flow) continues(next *flow, count, length int) bool {
	return !f.last && next.joins &&
		f.layout == next.layout && f.flagged == next.flagged &&
		next.size <= f.size && count < MaxSegments && length+next.size <= MaxSuperPacket &&
		(f.v6 || next.id == f.id+uint16(count)) &&
		(f.protocol == protocolUDP || next.seq == f.seq+uint32(count*f.size)) &&
		bytes.Equal(f.normal[:f.payload], next.normal[:f.payload])
}

// extend takes note of a packet that was joined.
func (f *flow) extend(next *flow) {
	f.flags = next.flags
	f.last = next.last || next.size < f.size
}

// finish writes the headers of a super-packet p over those of its first packet, and
// returns its virtio header.
func (f *flow) finish(p []byte) VirtioHeader {
	ip := p[f.network:]
	if f.v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Size))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		clear(ip[10:12])
		storeSum(ip[10:], ^fold(add(0, ip[:ipv4Size])))
	}
	if f.protocol == protocolTCP {
		p[f.transport+13] = f.flags
	} else {
		binary.BigEndian.PutUint16(p[f.transport+4:], uint16(len(p)-f.transport))
	}
	writePseudo(p, f.layout)
	h := partialHeader(f.layout)
	h.Type = f.gsoType()
	h.HeaderLen = uint16(f.payload)
	h.Size = uint16(f.size)
	return h
}
