package segment

import "encoding/binary"

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
	flagged bool   // partial checksums
	last    bool   // nothing can follow
	proved  bool   // the first packet's checksum is partial, or complete and found right
	flags   byte   // of the last packet: TCP only
	id      uint16 // of the first packet
	seq     uint32 // of the first packet
	size    int    // payload of the first packet
	ipSum   uint64 // of the IPv4 header without length, identification and checksum

	// The headers of the first packet, and ones where all packets of a flow are alike.
	headers, mask [maxJoined]byte
}

// begin makes a packet the first of a flow. located says whether l was found; of other
// packets nothing more is known.
func (f *flow) begin(p []byte, l layout, located, flagged bool) {
	f.layout, f.flagged, f.proved = l, flagged, flagged
	f.size = len(p) - l.payload
	f.last = !located || f.size == 0 || len(p)-l.network > MaxSuperPacket || !f.takeNetwork(p) || !f.takeTransport(p)
}

// takeNetwork remembers all headers, and which parts of the network header vary. It is
// false if the packet must stay alone, as splitting it off a super-packet would not give
// it back as it is.
func (f *flow) takeNetwork(p []byte) bool {
	if !f.v6 && (f.transport-f.network != ipv4Size || !intact(p[f.network:])) {
		return false
	}
	copy(f.headers[:f.payload], p)
	for i := range f.mask[:f.payload] {
		f.mask[i] = 0xff
	}
	mask := f.mask[f.network:]
	if f.v6 {
		clear(mask[4:6]) // payload length
		return true
	}
	f.id = binary.BigEndian.Uint16(p[f.network+4:])
	clear(mask[2:6]) // total length, identification
	clear(mask[10:12])
	f.ipSum = add(add(add(0, p[f.network:][:2]), p[f.network+6:][:4]), p[f.network+12:][:8])
	return true
}

// takeTransport is takeNetwork for the transport header.
func (f *flow) takeTransport(p []byte) bool {
	clear(f.mask[f.sum():][:2])
	transport, mask := p[f.transport:], f.mask[f.transport:]
	if f.protocol == protocolUDP {
		clear(mask[4:6])
		return f.canonical(p)
	}
	clear(mask[4:8]) // sequence number
	mask[13] = ^byte(flagPSH | flagFIN)
	f.seq = binary.BigEndian.Uint32(transport[4:])
	f.flags = transport[13]
	return f.flags&(flagSYN|flagRST|flagURG|flagCWR|flagACK|flagPSH|flagFIN) == flagACK && f.canonical(p)
}

// canonical reports whether the checksum is one that is made again. It is not, where UDP
// has none; and no sender of TCP computes 0xffff, but it would verify.
func (f *flow) canonical(p []byte) bool {
	sum := loadSum(p[f.sum():])
	return f.flagged || f.protocol == protocolUDP && sum != 0 || f.protocol == protocolTCP && sum != 0xffff
}

// intact reports whether the checksum of an IPv4 header without options is right.
func intact(ip []byte) bool { return fold(add(0, ip[:ipv4Size])) == 0xffff }

// continues reports whether a packet of n bytes that begins with p, with all its headers at
// least, may follow count packets of f that are length bytes long, from the IP header
// on. It does not look at complete transport checksums.
func (f *flow) continues(p []byte, n int, flagged bool, count, length int) bool {
	size := n - f.payload
	return !f.last && flagged == f.flagged && size > 0 && size <= f.size &&
		count < MaxSegments && length+size <= MaxSuperPacket &&
		f.alike(p) && f.networkFollows(p[f.network:], n-f.network, count) && f.transportFollows(p, n-f.transport, count)
}

// alike compares the headers where they may not differ. They are longer than 8 bytes.
func (f *flow) alike(p []byte) bool {
	p = p[:f.payload]
	a, mask := f.headers[:len(p)], f.mask[:len(p)]
	var differ uint64
	for i := 0; i < len(p)-8; i += 8 {
		differ |= differAt(p, a, mask, i)
	}
	return differ|differAt(p, a, mask, len(p)-8) == 0
}

func differAt(a, b, mask []byte, i int) uint64 {
	return (binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])) & binary.LittleEndian.Uint64(mask[i:])
}

// networkFollows looks at what varies in a network header; length counts from there on.
func (f *flow) networkFollows(ip []byte, length, count int) bool {
	if f.v6 {
		return int(binary.BigEndian.Uint16(ip[4:])) == length-ipv6Size
	}
	return int(binary.BigEndian.Uint16(ip[2:])) == length &&
		binary.BigEndian.Uint16(ip[4:]) == f.id+uint16(count) && f.intact(ip)
}

// intact is the function of that name for a header that is alike.
func (f *flow) intact(ip []byte) bool {
	lengthAndID := uint64(binary.LittleEndian.Uint32(ip[2:]))
	return fold(plus(f.ipSum, lengthAndID+uint64(loadSum(ip[10:])))) == 0xffff
}

// transportFollows is networkFollows for the transport header.
func (f *flow) transportFollows(p []byte, length, count int) bool {
	transport := p[f.transport:]
	if f.protocol == protocolUDP {
		return int(binary.BigEndian.Uint16(transport[4:])) == length && f.canonical(p)
	}
	return binary.BigEndian.Uint32(transport[4:]) == f.seq+uint32(count*f.size) && f.canonical(p)
}

// extend takes note of a packet of n bytes that was joined, and begins with p.
func (f *flow) extend(p []byte, n int) {
	if f.protocol == protocolTCP {
		f.flags = p[f.transport+13]
		f.last = f.flags&(flagPSH|flagFIN) != 0
	}
	f.last = f.last || n-f.payload < f.size
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
