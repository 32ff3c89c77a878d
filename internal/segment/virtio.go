package segment

import (
	"encoding/binary"
	"errors"
)

// VirtioSize is the length of a [VirtioHeader] in bytes.
const VirtioSize = 10

// Errors of [ParseVirtioHeader].
var (
	ErrVirtioSize  = errors.New("segment: virtio header of another length")
	ErrVirtioFlags = errors.New("segment: virtio header with unknown flags")
	ErrVirtioType  = errors.New("segment: virtio header with unknown type")
)

// Flags are the flags of a [VirtioHeader].
type Flags uint8

const (
	// NeedsCsum says that the transport checksum is partial: ChecksumOffset bytes
	// behind ChecksumStart lies the sum of the pseudo-header, and who needs the whole
	// sum adds up everything from ChecksumStart to the end.
	NeedsCsum Flags = 1
	// DataValid says that somebody has verified the transport checksum.
	DataValid Flags = 2
)

// GSOType says how a packet longer than a datagram is to be split.
type GSOType uint8

// The types of super-packet, and the bit beside them.
const (
	GSONone  GSOType = 0
	GSOTCPv4 GSOType = 1
	GSOTCPv6 GSOType = 4
	GSOUDP   GSOType = 5 // VIRTIO_NET_HDR_GSO_UDP_L4, over IPv4 and IPv6
	// GSOECN goes with the TCP types only: CWR is set, and belongs to the first segment.
	GSOECN GSOType = 0x80
)

// kind is the type without the bit beside it.
func (t GSOType) kind() GSOType { return t &^ GSOECN }

// VirtioHeader is struct virtio_net_hdr, which stands in front of each packet of a
// device with IFF_VNET_HDR. The zero value says that nothing is special.
//
//	0       1          2         4          6            8
//	+-------+----------+---------+----------+------------+-------------+
//	| flags | gso type | hdr len | gso size | csum start | csum offset |   in the machine's
//	+-------+----------+---------+----------+------------+-------------+   byte order
type VirtioHeader struct {
	Flags Flags
	Type  GSOType
	// HeaderLen is a hint: what the kernel hands over there is how much of the packet lies
	// in one piece, which may be more or less than the headers. Nothing here relies on it.
	HeaderLen      uint16
	Size           uint16 // payload of each segment but the last
	ChecksumStart  uint16
	ChecksumOffset uint16
}

// ParseVirtioHeader reads the header, which b must be, neither more nor less. It refuses
// flags and types that a device with the offloads of this package never has. Whether
// the numbers fit the packet, only [Splitter.Begin] can say.
func ParseVirtioHeader(b []byte) (VirtioHeader, error) {
	if len(b) != VirtioSize {
		return VirtioHeader{}, ErrVirtioSize
	}
	h := VirtioHeader{
		Flags:          Flags(b[0]),
		Type:           GSOType(b[1]),
		HeaderLen:      binary.NativeEndian.Uint16(b[2:]),
		Size:           binary.NativeEndian.Uint16(b[4:]),
		ChecksumStart:  binary.NativeEndian.Uint16(b[6:]),
		ChecksumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
	if h.Flags > DataValid { // the two exclude each other
		return VirtioHeader{}, ErrVirtioFlags
	}
	switch h.Type {
	case GSONone, GSOTCPv4, GSOTCPv6, GSOUDP, GSOTCPv4 | GSOECN, GSOTCPv6 | GSOECN:
		return h, nil
	default:
		return VirtioHeader{}, ErrVirtioType
	}
}

// Append appends the ten bytes of h to dst and returns the longer slice.
func (h VirtioHeader) Append(dst []byte) []byte {
	dst = append(dst, byte(h.Flags), byte(h.Type))
	dst = binary.NativeEndian.AppendUint16(dst, h.HeaderLen)
	dst = binary.NativeEndian.AppendUint16(dst, h.Size)
	dst = binary.NativeEndian.AppendUint16(dst, h.ChecksumStart)
	return binary.NativeEndian.AppendUint16(dst, h.ChecksumOffset)
}
