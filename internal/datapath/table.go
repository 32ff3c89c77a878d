package datapath

import (
	"sync/atomic"
	"time"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/replay"
	"tund/internal/wire"
)

// table is what the loops may use: the keys, and the configuration that concerns
// packets. It is never changed after it was published.
type table struct {
	lifetime time.Duration
	sources  *sources
	offloads pipe.Offloads
	send     *slot   // nil: there is no key to send with
	receive  []*slot // newest first, at most pipe.MaxSlots
}

// find returns the slot of an index. With so few slots a scan is faster than a map.
func (t *table) find(i wire.Index) *slot {
	for _, s := range t.receive {
		if s.receiveIndex == i {
			return s
		}
	}
	return nil
}

// expired says whether a key's lifetime is over. The loops ask for themselves, since
// control's timer stands still while the machine is suspended and now does not.
func (t *table) expired(e *epoch, now time.Duration) bool {
	return now-e.installed >= t.lifetime
}

// name names a slot. Names are ordered by key id, then generation.
type name struct {
	id         keys.KeyID
	generation keys.Generation
}

// newer says whether n is newer than other. The zero name is older than any slot.
func (n name) newer(other name) bool {
	if n.id != other.id {
		return n.id > other.id
	}
	return n.generation > other.generation
}

// slot is one IV generation of one epoch.
type slot struct {
	name
	epoch        *epoch
	sendIndex    wire.Index
	receiveIndex wire.Index

	heard atomic.Bool // inbound: an authentic packet was received in this slot

	retired   bool // control: no longer received with
	announced bool // control: the parent knows that it was heard
}

// epoch is one data key, both directions. Its IV generations share everything in it. It
// holds key bytes until it is buried.
type epoch struct {
	number    keys.Epoch // for logs
	aead      keys.AEAD
	installed time.Duration
	partial   bool // partial checksums may cross
	send      sender
	receive   receiver

	sendOver    bool // control: a hard limit ended the send key
	receiveOver bool // control: a hard limit ended the receive key
	due         [pipe.RekeyExpired + 1]bool
}

// sender is an epoch's send key. Any goroutine may use it.
type sender struct {
	cipher aead.Cipher
	key    keys.DataKey  // kept for a successor of this child
	next   atomic.Uint64 // the first packet number that is not reserved
	bytes  atomic.Uint64 // of payload
}

// reservation is a run of packet numbers that nobody else will ever use.
type reservation struct {
	first  wire.PacketNumber
	ok     bool // false: the key has ended, nothing may be sealed with it
	signal bool // control should look at this key
}

// reserve takes count packet numbers, for payloads of so many bytes. Every call takes
// new ones: what is reserved and then not used is lost.
func (s *sender) reserve(l *Limits, count, bytes int) reservation {
	n := s.next.Add(uint64(count))
	b := s.bytes.Add(uint64(bytes))
	r := reservation{first: wire.PacketNumber(n - uint64(count)), ok: n <= l.SendPackets && b <= l.SendBytes}
	r.signal = !r.ok || crossed(n, count, l.RekeyPackets) || crossed(b, bytes, l.RekeyBytes)
	return r
}

// crossed says whether a counter reached limit by its last step.
func crossed(n uint64, step int, limit uint64) bool {
	return n >= limit && n-uint64(step) < limit
}

// receiver is an epoch's receive key. Inbound owns it; control reads the atomics.
type receiver struct {
	cipher  aead.Cipher
	key     keys.DataKey // as in sender
	window  replay.Window
	missing uint64 // what this window has added to the total
	packets atomic.Uint64
	bytes   atomic.Uint64 // of payload
	failed  atomic.Uint64 // datagrams that did not open
}

// count keeps account of packets with payloads of so many bytes together, and says
// whether control should look at this key.
func (r *receiver) count(l *Limits, packets, bytes int) (signal bool) {
	total := r.packets.Add(uint64(packets))
	size := r.bytes.Add(uint64(bytes))
	return crossed(total, packets, l.RekeyPackets) || crossed(size, bytes, l.RekeyBytes)
}
