package segment

import "encoding/binary"

// Protocols, and the places of things in their headers.
const (
	protocolTCP = 6
	protocolUDP = 17

	ethernetSize = 14
	vlanSize     = 4
	ipv4Size     = 20
	ipv6Size     = 40
	tcpSize      = 20
	udpSize      = 8

	tcpSum = 16 // place of the checksum in the TCP header
	udpSum = 6
)

// Location says where the transport checksum of a packet lies.
type Location struct {
	Start    int  // of the transport header, from where the sum is taken
	Offset   int  // of the checksum behind Start
	Protocol byte // 6 is TCP, 17 UDP
}

// layout says where the parts of a packet begin.
type layout struct {
	network, transport, payload int
	protocol                    byte
	v6                          bool
}

// sum is the place of the transport checksum.
func (l layout) sum() int { return l.transport + l.sumOffset() }

func (l layout) sumOffset() int {
	if l.protocol == protocolTCP {
		return tcpSum
	}
	return udpSum
}

// Locate finds the transport checksum of a packet or frame. It is the one function that
// both ends of the tunnel ask, so that a partial checksum needs no description on its
// way: a sender leaves a checksum partial only where Locate finds it, and the
// receiver goes by what Locate finds, and by nothing else.
//
// It finds the checksum of exactly these: IPv4 that is no fragment, with a valid header
// length and a total length of all that is there; IPv6 with TCP or UDP as its first next
// header and a payload length of all that is there; in a frame only as Ethernet II
// with at most two VLAN tags; TCP whose header fits; UDP whose length is all
// that is there. It does not look at any checksum.
func Locate(mode Mode, packet []byte) (Location, bool) {
	l, ok := locate(mode, packet)
	if !ok {
		return Location{}, false
	}
	return Location{Start: l.transport, Offset: l.sumOffset(), Protocol: l.protocol}, true
}

// Accept prepares a single packet that came through the tunnel with a partial checksum for
// the device: it writes the sum of the pseudo-header, whatever stood there, and
// returns the header to put in front. It is false, and nothing is written, where
// Locate finds nothing: such a packet must be dropped.
func Accept(mode Mode, packet []byte) (VirtioHeader, bool) {
	l, ok := locate(mode, packet)
	if !ok {
		return VirtioHeader{}, false
	}
	writePseudo(packet, l)
	return partialHeader(l), true
}

// writePseudo makes the checksum of a packet partial.
func writePseudo(p []byte, l layout) {
	storeSum(p[l.sum():], fold(plus(pseudo(p, l), word(len(p)-l.transport))))
}

// partialHeader is the header of a single packet with a partial checksum.
func partialHeader(l layout) VirtioHeader {
	return VirtioHeader{
		Flags:          NeedsCsum,
		ChecksumStart:  uint16(l.transport),
		ChecksumOffset: uint16(l.sumOffset()),
	}
}

func locate(mode Mode, p []byte) (layout, bool) {
	l, ok := locateNetwork(mode, p)
	switch {
	case !ok:
		return l, false
	case l.v6:
		l.transport = l.network + ipv6Size
		l.protocol = p[l.network+6]
	default:
		l.protocol = p[l.network+9]
	}
	return l, l.locatePayload(p)
}

// locateNetwork finds the network header, and checks the lengths in it. It sets v6 or
// transport.
func locateNetwork(mode Mode, p []byte) (l layout, ok bool) {
	switch mode {
	case TUN:
		if len(p) == 0 {
			return l, false
		}
		l.v6 = p[0]>>4 == 6
	case TAP:
		etherType, at := locateEthernet(p)
		if etherType != 0x0800 && etherType != 0x86dd {
			return l, false
		}
		l.network = at
		l.v6 = etherType == 0x86dd
	default:
		return l, false
	}
	if l.v6 {
		return l, checkIPv6(p[l.network:])
	}
	size, ok := checkIPv4(p[l.network:])
	l.transport = l.network + size
	return l, ok
}

// locateEthernet returns the type of an Ethernet II frame behind at most two VLAN tags,
// and where its payload begins. It returns 0 for anything else.
func locateEthernet(p []byte) (etherType uint16, at int) {
	for at = ethernetSize; at <= ethernetSize+2*vlanSize && at <= len(p); at += vlanSize {
		etherType = binary.BigEndian.Uint16(p[at-2:])
		if etherType != 0x8100 && etherType != 0x88a8 {
			return etherType, at
		}
	}
	return 0, 0
}

// checkIPv4 returns the length of the header of a packet that is whole and no fragment.
func checkIPv4(p []byte) (size int, ok bool) {
	if len(p) < ipv4Size || p[0]>>4 != 4 {
		return 0, false
	}
	size = int(p[0]&15) * 4
	return size, size >= ipv4Size && size <= len(p) &&
		int(binary.BigEndian.Uint16(p[2:])) == len(p) &&
		binary.BigEndian.Uint16(p[6:])&0x3fff == 0
}

func checkIPv6(p []byte) bool {
	return len(p) >= ipv6Size && p[0]>>4 == 6 && int(binary.BigEndian.Uint16(p[4:])) == len(p)-ipv6Size
}

// locatePayload finds the payload of a transport header at l.transport.
func (l *layout) locatePayload(p []byte) bool {
	rest := p[l.transport:]
	switch l.protocol {
	case protocolTCP:
		if len(rest) < tcpSize {
			return false
		}
		size := int(rest[12]>>4) * 4
		l.payload = l.transport + size
		return size >= tcpSize && size <= len(rest)
	case protocolUDP:
		l.payload = l.transport + udpSize
		return len(rest) >= udpSize && int(binary.BigEndian.Uint16(rest[4:])) == len(rest)
	default:
		return false
	}
}

// locateBehindExtensions is locate for an IPv6 packet whose transport header is said to
// begin at start, behind extension headers of the kinds that the kernel itself
// passes over when it splits a packet: hop-by-hop and destination options, routing.
func locateBehindExtensions(mode Mode, p []byte, start int) (layout, bool) {
	l, ok := locateNetwork(mode, p)
	if !ok || !l.v6 {
		return l, false
	}
	next, at := p[l.network+6], l.network+ipv6Size
	for at < start && at+8 <= len(p) {
		switch next {
		case 0, 43, 60:
			next = p[at]
			at += (int(p[at+1]) + 1) * 8
		default:
			return l, false
		}
	}
	if at != start || at > len(p) {
		return l, false
	}
	l.transport = at
	l.protocol = next
	return l, l.locatePayload(p)
}
