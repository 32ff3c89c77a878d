package segment

// Sizes of the buffer of a [Chain].
const (
	// MaxPacket is the longest packet that a Chain takes.
	MaxPacket = 65535
	// MinBuffer is the least length of the buffer. A Chain that is given more
	// needs fewer writes of super-packets cut short by its end.
	MinBuffer = firstBase + MaxPacket

	// firstBase is where the first packet begins: behind a virtio header, and aligned.
	firstBase = 16
)

// Verdict is what a [Chain] says of a packet.
type Verdict uint8

const (
	// Held says that the packet was taken and may be continued by the next.
	Held Verdict = iota + 1
	// Full says that the packet was taken, and that nothing can be added before
	// Take was called.
	Full
	// Malformed says that the packet was not taken: its checksum is said to be partial,
	// and there is none. It counts as dropped.
	Malformed
)

// Chain joins opened packets into super-packets for the device. It is a state beside one
// buffer, in which each packet is opened so that its payload lies behind the payload
// before; the package's comment draws it. It is used by one goroutine and does not
// allocate after NewChain.
//
// Per datagram:
//
//	dst := chain.Room(n)                 // n: length of the plaintext to come
//	for dst == nil {                     // no room before what is finished was written
//		p := chain.Take()
//		…                            // write p; if p is nil, n is too great
//		dst = chain.Room(n)
//	}
//	packet, err := aead.Open(dst, …)
//	if err != nil || replayed || … {     // anything about packet may be looked at here
//		chain.Reject()
//	} else {
//		chain.Add(flagged)
//	}
//
// and at the end of a batch Take until it is nil.
type Chain struct {
	mode     Mode
	buffer   []byte
	tcp, udp bool // protocols that are joined

	// The packets joined so far lie from start to end. There are count of them; the
	// rest is meaningless if that is none.
	count, start, end int
	flow              flow

	// The candidate lies from at on, its first overlap bytes over the end of what is
	// joined, whose bytes are in saved.
	candidate         bool
	at, size, overlap int
	saved             [maxJoined]byte

	// A packet that continues nothing waits for what is joined to be written. Its first
	// overlap bytes are in head; all else of it is where it was opened.
	waiting bool
	next    flow
	head    [maxJoined]byte
}

// NewChain returns a Chain that joins TCP and UDP in a buffer of at least [MinBuffer]
// bytes, which belongs to the Chain from now on but for what its methods lend. It
// panics if the buffer is shorter.
func NewChain(mode Mode, buffer []byte) *Chain {
	if len(buffer) < MinBuffer {
		panic("segment: internal error: buffer of a chain too short")
	}
	return &Chain{mode: mode, buffer: buffer, tcp: true, udp: true}
}

// Join sets which protocols are joined from the next packet on. All others, and with
// neither all packets, are taken and given one by one.
func (c *Chain) Join(tcp, udp bool) { c.tcp, c.udp = tcp, udp }

// Room returns where to open a packet of n bytes: an empty slice of that capacity. It is
// nil if Take must be called first. Add or Reject end what Room began; until then the
// bytes of the slice, whether written or not, harm nothing.
func (c *Chain) Room(n int) []byte {
	at, overlap := c.room()
	if at < 0 || n < 0 || n > MaxPacket || n > len(c.buffer)-at {
		return nil
	}
	c.begin(at, n, overlap)
	return c.buffer[at : at : at+n]
}

// room returns where the next packet is to begin, and how much of it will lie over
// what is joined; at is negative if nothing can follow.
func (c *Chain) room() (at, overlap int) {
	c.settle()
	switch {
	case c.count == 0:
		return firstBase, 0
	case c.waiting || c.flow.last:
		return -1, 0
	default:
		return c.end - c.flow.payload, c.flow.payload
	}
}

// Tail is for who opens several packets in one call, without a look at each between: the
// payload of the packet that continues the chain must be opened to end, and its first
// overlap bytes therefore over what lies in front of end. Those must be saved, moved
// aside as the packet's head, and what was saved be put back; end moves on by the
// rest of the packet; and so on. It is false if nothing can continue: then the next
// packet goes through Room.
func (c *Chain) Tail() (end, overlap int, ok bool) {
	at, overlap := c.room()
	if at < 0 || overlap == 0 {
		return 0, 0, false
	}
	return c.end, overlap, true
}

// Place takes the place of Room for such a packet: it is n bytes long and begins at at in
// the buffer, but for its first bytes, which are head. It returns the whole packet, to be
// looked at before Add or Reject, or nil if Take must be called first. The caller
// must go on in the order in which it opened the packets.
func (c *Chain) Place(at int, head []byte, n int) []byte {
	c.settle()
	head = head[:min(len(head), n)]
	if at < VirtioSize || n > MaxPacket || n > len(c.buffer)-at {
		return nil
	}
	overlap := 0
	if c.count > 0 {
		if c.waiting || c.flow.last || at < c.start || at+len(head) < c.end {
			return nil
		}
		overlap = max(0, c.end-at)
	}
	if overlap > maxJoined {
		return nil
	}
	c.begin(at, n, overlap)
	p := c.buffer[at : at+n : at+n]
	copy(p, head)
	return p
}

// Extend takes the place of Place and Add where the head shows that a packet with a partial
// checksum continues the chain: nothing is copied. It takes the packet and is true, or
// changes nothing and is false; then Place comes next.
func (c *Chain) Extend(at int, head []byte, n int) bool {
	if c.settle(); c.count == 0 || c.waiting || !c.flow.flagged || len(head) != c.flow.payload || at+len(head) != c.end ||
		n > len(c.buffer)-at || !c.joined(c.flow.protocol) || !c.flow.continues(head, n, true, c.count, c.end-c.start-c.flow.network) {
		return false
	}
	c.flow.extend(head, n)
	c.end = at + n
	c.count++
	return true
}

// begin saves what a candidate will cover.
func (c *Chain) begin(at, size, overlap int) {
	c.candidate = true
	c.at, c.size, c.overlap = at, size, overlap
	copy(c.saved[:overlap], c.buffer[at:])
}

// Reject forgets the packet that Room or Place was for: it did not open, is a replay, or
// must not pass. Everything is as before.
func (c *Chain) Reject() {
	if c.candidate {
		c.candidate = false
		copy(c.buffer[c.at:], c.saved[:c.overlap])
	}
}

// Add takes the packet that Room or Place was for, of exactly that length, whole and
// authentic. flagged says that its checksum is partial.
func (c *Chain) Add(flagged bool) Verdict {
	if !c.candidate {
		return Malformed
	}
	p := c.buffer[c.at : c.at+c.size]
	if c.continues(p, flagged) && (c.flow.proved || c.prove(p)) {
		c.flow.extend(p, len(p))
		c.Reject() // puts back what the headers cover
		c.end = c.at + c.size
		c.count++
		return c.verdict()
	}
	l, located := locate(c.mode, p)
	if flagged && !located {
		c.Reject()
		return Malformed
	}
	if flagged {
		writePseudo(p, l)
	}
	c.next.begin(p, l, located && c.joined(l.protocol), flagged)
	copy(c.head[:min(c.overlap, c.size)], p)
	c.Reject()
	c.waiting = true
	c.settle()
	return c.verdict()
}

func (c *Chain) verdict() Verdict {
	if c.waiting || c.flow.last {
		return Full
	}
	return Held
}

func (c *Chain) joined(protocol byte) bool {
	return protocol == protocolTCP && c.tcp || protocol == protocolUDP && c.udp
}

// continues reports whether the candidate p goes on where the chain ends. A complete
// checksum is looked at only if all else is right.
func (c *Chain) continues(p []byte, flagged bool) bool {
	return c.count > 0 && c.overlap == c.flow.payload && c.at+c.overlap == c.end && c.joined(c.flow.protocol) &&
		c.flow.continues(p, len(p), flagged, c.count, c.end-c.start-c.flow.network) &&
		(flagged || verified(p, c.flow.layout))
}

// prove verifies the complete checksum of the first packet when a second one, p, wants to
// join it: a packet that stays alone leaves that to the kernel. For the moment, p
// gives back the bytes that its headers cover.
func (c *Chain) prove(p []byte) bool {
	copy(c.head[:c.overlap], p)
	copy(p, c.saved[:c.overlap])
	c.flow.proved = verified(c.buffer[c.start:c.end], c.flow.layout)
	c.flow.last = !c.flow.proved
	copy(p, c.head[:c.overlap])
	return c.flow.proved
}

// settle makes the waiting packet the first of a new chain, unless the chain before it is
// still there.
func (c *Chain) settle() {
	c.Reject()
	if !c.waiting || c.count > 0 {
		return
	}
	c.waiting = false
	copy(c.buffer[c.at:], c.head[:min(c.overlap, c.size)])
	c.start, c.end, c.count = c.at, c.at+c.size, 1
	c.flow = c.next
}

// Take returns what is ready, as the device takes it in one write: a virtio header and
// behind it a packet or super-packet. It is nil when there is nothing; after one, there
// may be another. The bytes are the caller's until it calls any other method, also
// to split them again if the device refuses them.
func (c *Chain) Take() []byte {
	c.settle()
	if c.count == 0 {
		return nil
	}
	p := c.buffer[c.start:c.end]
	var h VirtioHeader
	switch {
	case c.count > 1:
		h = c.flow.finish(p)
	case c.flow.flagged:
		h = partialHeader(c.flow.layout)
	}
	h.Append(c.buffer[c.start-VirtioSize : c.start-VirtioSize])
	c.count = 0
	return c.buffer[c.start-VirtioSize : c.end : c.end]
}
