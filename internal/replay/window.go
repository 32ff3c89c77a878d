// Package replay lets each packet number pass at most once.
//
// A [Window] belongs to one receive key, whose IV generations share it, and to the
// child's inbound goroutine. It is the algorithm of RFC 6479: a ring of bits that is
// moved on by whole blocks, so no bit is ever shifted. It neither allocates nor locks.
//
//	   too old: refused            the window: one bit a number             ahead: accepted
//	…───────────────────────┬──────────────────────────────────────────┬──────────────────…
//	                    next - Size                                  next
package replay

import "tund/internal/wire"

// Size is how many packet numbers below the next one may still arrive, each once.
const Size = 8192

// The ring has room for the window and for the part of a block that is before it;
// a power of two makes the place of a number a mask.
const (
	blockBits  = 64
	ringBlocks = 2 * Size / blockBits
	ringMask   = ringBlocks - 1
)

// last is refused always: a next number above it does not exist. No sender gets near.
const last = wire.PacketNumber(1<<64 - 1)

// Window remembers which packet numbers have passed. The zero value is a window that
// nothing has passed. It is not safe for concurrent use.
type Window struct {
	next     wire.PacketNumber // the highest committed number plus one; 0: none yet
	received uint64
	ring     [ringBlocks]uint64
}

// Check says whether n may pass now. It changes nothing, so it may come before the
// datagram is opened; what it lets through is not yet authentic.
func (w *Window) Check(n wire.PacketNumber) bool {
	if n >= w.next {
		return n != last
	}
	return w.next-n <= Size && w.ring[block(n)]&bit(n) == 0
}

// Commit lets n pass, and says whether it was the first time and not too late. The
// caller must have opened the datagram first, and drops it when Commit returns false.
func (w *Window) Commit(n wire.PacketNumber) bool {
	if !w.Check(n) {
		return false
	}
	if n >= w.next {
		w.advance(n)
	}
	w.ring[block(n)] |= bit(n)
	w.received++
	return true
}

// advance makes n the highest number and clears the blocks between.
func (w *Window) advance(n wire.PacketNumber) {
	from := w.next / blockBits // the first block never reached, once rounded up
	if w.next%blockBits != 0 {
		from++
	}
	count := n/blockBits + 1 - from
	for i := range min(count, ringBlocks) {
		w.ring[(from+i)&ringMask] = 0
	}
	w.next = n + 1
}

// Received returns how many different numbers have passed.
func (w *Window) Received() uint64 { return w.received }

// Missing returns how many numbers below the highest one have not passed: packets
// lost or still under way. It falls when a late one arrives.
func (w *Window) Missing() uint64 { return uint64(w.next) - w.received }

func block(n wire.PacketNumber) wire.PacketNumber { return n / blockBits & ringMask }

func bit(n wire.PacketNumber) uint64 { return 1 << (n % blockBits) }
