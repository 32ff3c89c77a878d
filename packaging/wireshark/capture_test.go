package wireshark_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
)

// linkRaw says that each packet of a capture begins with its IP header.
const linkRaw = 101

// capture is packets between two hosts, in the format of libpcap.
type capture struct {
	packets [][]byte
	dialler uint16    // the port of the present TCP stream
	sent    [2]uint32 // bytes of it, by the listener and by the dialler
}

// begin makes what follows a TCP stream from a port of the dialler.
func (c *capture) begin(port uint16) { c.dialler, c.sent = port, [2]uint32{} }

// datagram adds one UDP datagram to a port, of the given parts.
func (c *capture) datagram(port uint16, parts ...[]byte) {
	payload := bytes.Join(parts, nil)
	b := binary.BigEndian.AppendUint16(nil, 40000)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = binary.BigEndian.AppendUint16(b, 0) // no checksum
	c.ip(17, append(b, payload...))
}

// segment adds the next bytes of the TCP stream of a session, from the dialler or to it.
func (c *capture) segment(dialler bool, payload []byte) {
	ports, side := [2]uint16{7900, c.dialler}, 0
	if dialler {
		ports, side = [2]uint16{c.dialler, 7900}, 1
	}
	b := binary.BigEndian.AppendUint16(nil, ports[0])
	b = binary.BigEndian.AppendUint16(b, ports[1])
	b = binary.BigEndian.AppendUint32(b, 1000+c.sent[side])
	b = binary.BigEndian.AppendUint32(b, 1000+c.sent[1-side])
	b = append(b, 5<<4, 0x18, 0xff, 0xff, 0, 0, 0, 0) // no options; ACK and PSH; window
	c.sent[side] += uint32(len(payload))
	c.ip(6, append(b, payload...))
}

func (c *capture) ip(protocol byte, payload []byte) {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2)
	c.packets = append(c.packets, append(b, payload...))
}

// write writes the capture to a file.
func (c *capture) write(t *testing.T, path string) {
	t.Helper()
	var b []byte
	for _, word := range []uint32{0xa1b2c3d4, 2<<16 | 4, 0, 0, 1 << 16, linkRaw} {
		b = binary.BigEndian.AppendUint32(b, word)
	}
	for i, packet := range c.packets {
		for _, word := range []uint32{uint32(i), 0, uint32(len(packet)), uint32(len(packet))} {
			b = binary.BigEndian.AppendUint32(b, word)
		}
		b = append(b, packet...)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
