package lab

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	etherTypeVLAN = 0x8100
	// etherTypeLocal is one of those that IEEE 802 leaves for local experiments.
	etherTypeLocal = 0x88b5

	// vlanAt is where an 802.1Q tag stands in a frame: behind the two addresses.
	vlanAt = 12

	// auxdataSize is that of struct tpacket_auxdata, which holds status at 0 and the
	// tag's content at 16.
	auxdataSize, auxStatus, auxTCI = 20, 0, 16
)

// TaggedFrame returns a broadcast Ethernet frame with an 802.1Q tag and size bytes of
// payload, which no host takes for anything.
func TaggedFrame(vlan uint16, size int) []byte {
	frame := slices.Repeat([]byte{0xff}, 6)
	frame = append(frame, 0x02, 't', 'u', 'n', 'd', 1)
	frame = binary.BigEndian.AppendUint16(frame, etherTypeVLAN)
	frame = binary.BigEndian.AppendUint16(frame, vlan)
	frame = binary.BigEndian.AppendUint16(frame, etherTypeLocal)
	return append(frame, content()[:size]...)
}

// TaggedSuperFrame returns an Ethernet frame with an 802.1Q tag and count segments of TCP or
// datagrams of UDP over IPv4, size bytes each, behind the virtio-net header that says so. Its
// checksum is partial.
func TaggedSuperFrame(vlan uint16, protocol byte, count, size int) []byte {
	transport, kind, field := 20, byte(unix.VIRTIO_NET_HDR_GSO_TCPV4), 16 // of TCP
	if protocol == unix.IPPROTO_UDP {
		transport, kind, field = udpHeader, virtioUDP, 6
	}
	start := vlanAt + 4 + 2 + 20 // of the transport header
	data := []byte{unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, kind}
	for _, v := range []int{start + transport, size, start, field} {
		data = binary.NativeEndian.AppendUint16(data, uint16(v))
	}
	data = append(data, TaggedFrame(vlan, 0)[:vlanAt+4]...)
	data = binary.BigEndian.AppendUint16(data, etherTypeIPv4)
	ip := []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 192, 168, 52, 1, 192, 168, 52, 2}
	length := transport + count*size
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+length))
	binary.BigEndian.PutUint16(ip[10:], ^fold(onesComplement(ip)))
	header := make([]byte, transport)
	copy(header, []byte{0x12, 0x34, 0x43, 0x21}) // ports
	if protocol == unix.IPPROTO_UDP {
		binary.BigEndian.PutUint16(header[4:], uint16(length))
	} else {
		header[12], header[13] = byte(transport/4)<<4, 0x10 // ACK
	}
	pseudo := onesComplement(ip[12:20]) + uint32(protocol) + uint32(length)
	binary.BigEndian.PutUint16(header[field:], fold(pseudo))
	return slices.Concat(data, ip, header, content()[:count*size])
}

// SendSuperFrame puts what TaggedSuperFrame returns on a device of the node.
func (n *Node) SendSuperFrame(device string, data []byte) {
	n.lab.tb.Helper()
	err := n.Do(func() error {
		fd, err := relaySocket(device)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		_, err = unix.Write(fd, data)
		return err
	})
	if err != nil {
		n.lab.tb.Fatalf("node %s: send super-frame on %s: %v", n.Name, device, err)
	}
}

// SendFrame puts an Ethernet frame on a device of the node.
func (n *Node) SendFrame(device string, frame []byte) {
	n.lab.tb.Helper()
	err := n.Do(func() error {
		fd, err := packetSocket(device, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		_, err = unix.Write(fd, frame)
		return err
	})
	if err != nil {
		n.lab.tb.Fatalf("node %s: send frame on %s: %v", n.Name, device, err)
	}
}

// FrameListener receives whole Ethernet frames on a device.
type FrameListener struct {
	fd     int
	buffer []byte
	oob    []byte
}

// ListenFrames begins to listen for frames of any kind on a device of the node.
func (n *Node) ListenFrames(device string) *FrameListener {
	n.lab.tb.Helper()
	l := &FrameListener{buffer: make([]byte, 1<<16), oob: make([]byte, 256)}
	err := n.Do(func() (err error) {
		if l.fd, err = packetSocket(device, unix.ETH_P_ALL); err != nil {
			return err
		}
		return unix.SetsockoptInt(l.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	})
	if err != nil {
		n.lab.tb.Fatalf("node %s: listen on %s: %v", n.Name, device, err)
	}
	n.lab.tb.Cleanup(func() { _ = unix.Close(l.fd) })
	return l
}

// Hears reports whether a frame of exactly these bytes comes within the limit.
func (l *FrameListener) Hears(frame []byte, limit time.Duration) (bool, error) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		size, oobSize, _, _, err := unix.Recvmsg(l.fd, l.buffer, l.oob, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, err
		}
		if slices.Equal(retag(l.buffer[:size], l.oob[:oobSize]), frame) {
			return true, nil
		}
	}
	return false, nil
}

// retag puts the VLAN tag back that the kernel moved from the frame into the auxiliary
// data (packet(7), PACKET_AUXDATA).
func retag(frame, oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return frame
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < auxdataSize {
			continue
		}
		if binary.NativeEndian.Uint32(m.Data[auxStatus:])&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		tag := binary.BigEndian.AppendUint16(nil, etherTypeVLAN)
		tag = binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(m.Data[auxTCI:]))
		return slices.Concat(frame[:vlanAt], tag, frame[vlanAt:])
	}
	return frame
}
