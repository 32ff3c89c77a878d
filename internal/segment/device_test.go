package segment_test

import (
	"bytes"
	"testing"

	"tund/internal/segment"
)

// fate is what becomes of a datagram.
type fate int

const (
	passes  fate = iota
	fails        // does not open: what was written is garbage
	refused      // opens, but is a replay or may not pass
)

// arrival is one datagram's packet.
type arrival struct {
	packet   []byte // as it is opened
	flagged  bool
	complete []byte // as it must reach the device in the end; nil if it must not
	fate     fate
}

// arrive makes the arrival of a packet that passes.
func arrive(packet, complete []byte, flagged bool) arrival {
	return arrival{packet: packet, complete: complete, flagged: flagged}
}

// arrivals returns the packets of a super-packet.
func (s spec) arrivals(flagged bool) []arrival {
	var all []arrival
	complete := s.segments(false)
	for k, p := range s.segments(flagged) {
		all = append(all, arrive(p, complete[k], flagged))
	}
	return all
}

// device collects what a chain gives, and checks that a kernel would take it.
type device struct {
	t       *testing.T
	mode    segment.Mode
	writes  int
	extends int // packets that were taken by their heads
	packets [][]byte
	supers  [][]byte
	headers []segment.VirtioHeader
}

func (d *device) write(p []byte) {
	d.t.Helper()
	h, err := segment.ParseVirtioHeader(p[:segment.VirtioSize])
	if err != nil {
		d.t.Fatal(err)
	}
	packet := p[segment.VirtioSize:]
	d.writes++
	d.supers = append(d.supers, bytes.Clone(packet))
	d.headers = append(d.headers, h)
	if h.Flags == 0 && h != (segment.VirtioHeader{}) {
		d.t.Fatalf("header %+v", h)
	}
	if h.Flags == segment.NeedsCsum {
		d.checkPartial(h, packet)
	}
	split := slowSplit(d.mode, h, packet)
	if h.Type != segment.GSONone && (len(split) < 2 || len(split) > segment.MaxSegments) {
		d.t.Fatalf("a super-packet of %d", len(split))
	}
	d.packets = append(d.packets, split...)
	for i := range p {
		p[i] ^= 0xa5 // it belongs to the device until the next call
	}
}

// checkPartial compares the header with what the packet says of itself.
func (d *device) checkPartial(h segment.VirtioHeader, packet []byte) {
	d.t.Helper()
	l, ok := segment.Locate(d.mode, packet)
	if !ok || l.Start != int(h.ChecksumStart) || l.Offset != int(h.ChecksumOffset) {
		d.t.Fatalf("header %+v, but found %+v, %v", h, l, ok)
	}
	if h.Type != segment.GSONone && (int(h.HeaderLen) <= l.Start || int(h.HeaderLen)+int(h.Size) >= len(packet)) {
		d.t.Fatalf("header %+v for %d bytes", h, len(packet))
	}
}

func (d *device) drain(c *segment.Chain) {
	for p := c.Take(); p != nil; p = c.Take() {
		d.write(p)
	}
}

// feed carries arrivals one by one.
func (d *device) feed(c *segment.Chain, arrivals []arrival) {
	d.t.Helper()
	for _, a := range arrivals {
		dst := c.Room(len(a.packet))
		for dst == nil {
			p := c.Take()
			if p == nil {
				d.t.Fatalf("no room for %d bytes", len(a.packet))
			}
			d.write(p)
			dst = c.Room(len(a.packet))
		}
		if len(dst) != 0 || cap(dst) != len(a.packet) {
			d.t.Fatalf("Room(%d) has length %d, capacity %d", len(a.packet), len(dst), cap(dst))
		}
		d.decide(c, append(dst, a.packet...), a)
	}
}

// decide ends a packet that was opened.
func (d *device) decide(c *segment.Chain, opened []byte, a arrival) {
	d.t.Helper()
	switch a.fate {
	case fails:
		for i := range opened {
			opened[i] = 0xee
		}
		c.Reject()
	case refused:
		c.Reject()
	case passes:
		verdict := c.Add(a.flagged)
		if (verdict == segment.Malformed) != (a.complete == nil) {
			d.t.Fatalf("verdict %d", verdict)
		}
	}
}

// feedMany carries arrivals as an engine does that opens several in one call.
func (d *device) feedMany(c *segment.Chain, buffer []byte, arrivals []arrival) {
	d.t.Helper()
	for len(arrivals) > 0 {
		end, overlap, ok := c.Tail()
		if !ok {
			d.feed(c, arrivals[:1])
			arrivals = arrivals[1:]
			continue
		}
		opened := openMany(buffer, end, overlap, arrivals)
		for _, o := range opened {
			d.place(c, o)
		}
		if len(opened) == 0 { // no room
			d.feed(c, arrivals[:1])
			arrivals = arrivals[1:]
		}
		arrivals = arrivals[len(opened):]
	}
}

// opened is an arrival that lies in the buffer without its head.
type opened struct {
	arrival
	at   int
	head []byte
}

func openMany(buffer []byte, end, overlap int, arrivals []arrival) []opened {
	var all []opened
	for _, a := range arrivals {
		at := end - overlap
		if at+len(a.packet) > len(buffer) {
			break
		}
		saved := bytes.Clone(buffer[at:end])
		copy(buffer[at:], a.packet)
		if a.fate == fails {
			for i := range a.packet {
				buffer[at+i] = 0xee
			}
		}
		o := opened{arrival: a, at: at, head: bytes.Clone(buffer[at:][:min(overlap, len(a.packet))])}
		copy(buffer[at:], saved)
		all = append(all, o)
		if len(a.packet) < overlap {
			break
		}
		if a.fate != fails {
			end = at + len(a.packet)
		}
	}
	return all
}

func (d *device) place(c *segment.Chain, o opened) {
	d.t.Helper()
	if o.fate == fails {
		return
	}
	if o.fate == passes && o.flagged && c.Extend(o.at, o.head, len(o.packet)) {
		d.extends++
		return
	}
	p := c.Place(o.at, o.head, len(o.packet))
	for p == nil {
		ready := c.Take()
		if ready == nil {
			d.t.Fatalf("no place for %d bytes at %d", len(o.packet), o.at)
		}
		d.write(ready)
		p = c.Place(o.at, o.head, len(o.packet))
	}
	if !bytes.Equal(p, o.packet) {
		d.t.Fatalf("placed\n%x, want\n%x", head(p), head(o.packet))
	}
	d.decide(c, p, o.arrival)
}

// wanted returns what must reach the device.
func wanted(arrivals []arrival) [][]byte {
	var packets [][]byte
	for _, a := range arrivals {
		if a.fate == passes && a.complete != nil {
			packets = append(packets, a.complete)
		}
	}
	return packets
}
