package datapath

import (
	"errors"
	"fmt"
	"time"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/segment"
	"tund/internal/udp"
	"tund/internal/wire"
)

// The way of a datagram in:
//
//  1. wait until the socket has one, or until the stop
//  2. receive what is there, one by one or in runs of equal size, and for each datagram:
//  3. parse the header, find the slot of its index, ask the epoch's replay window
//  4. open it, together with its neighbours of the same slot, so that its payload lies
//     behind the payload of the one before (package segment: Chain)
//  5. commit to the window
//  6. the first one in a slot: wake control, which tells the parent and may switch sending
//  7. a probe ends here (probes.go); it is answered, or its answer goes to control
//  8. check form and source of the inner packet
//  9. join it to the super-packet before it, if it continues that
//  10. write to the device what is complete, at the latest when the socket is empty
//
// Nothing before the end of step 5 changes anything but counters.

// longRun is how many datagrams of one receipt are surely worth a write of their own.
const longRun = 16

// A turn is over after so many receipts, or after the receipt that reaches so many datagrams;
// then the stop, and the other direction where there is one goroutine for both, is looked at
// again. Datagrams that come one by one, as over a wire that splits runs, make a
// super-packet only if a turn has room for all of its segments.
const (
	turnReceipts  = 128
	turnDatagrams = 384
)

// bulkSize is what a datagram of a bulk flow has at least, in bytes. Small packets come in
// long runs as well, after they had to wait for a restart, and may be of any kind.
const bulkSize = 600

// inbound is the loop from the socket to the device. Its fields belong to its own
// goroutine, but for counters and turn.
type inbound struct {
	*shared
	mode   pipe.Mode
	device Device
	used   *table // that chain goes by

	received [1 << 16]byte
	opened   [2 * segment.MinBuffer]byte // the chain's
	chain    *segment.Chain
	splitter segment.Splitter // for what the device does not take whole
	group    group
	probed   [1 << 16]byte // opened probes
	nonce    [aead.NonceSize]byte

	standing  standing
	unasked   int  // bytes of bulk since the socket was asked what waits
	lose      bool // the next packet is to be lost
	emptied   bool // the socket holds nothing more
	accepted  accepted
	allowance allowance // of answers to probes
	answer    sealed

	counters inboundCounters
	turn     turn
}

// accepted is what has passed a window and is not in the counters yet.
type accepted struct{ packets, bytes int }

// group is datagrams of one receipt and one slot, one behind the other in received.
type group struct {
	slot  *slot
	count int
	heads [maxJobs][aead.MaxHead]byte
	jobs  [maxJobs]aead.Job
	of    [maxJobs]wire.Header
	batch aead.Batch
}

func newInbound(sh *shared, mode pipe.Mode, device Device) *inbound {
	i := &inbound{shared: sh, mode: mode, device: device}
	i.counters.last.Store(-1)
	i.chain = segment.NewChain(segment.Mode(mode), i.opened[:])
	i.chain.Join(false, false)
	return i
}

// run moves datagrams until the stop, or until the device or socket is lost.
func (i *inbound) run() error {
	for {
		err := i.socket.Wait(i.stop.FD())
		if errors.Is(err, udp.ErrStopped) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("socket: wait: %w", err)
		}
		i.turn.begin()
		err = i.batch()
		i.turn.end()
		if err != nil {
			return err
		}
	}
}

// batch carries what the socket has now, for a turn at most.
func (i *inbound) batch() error {
	now := i.now()
	for receipts, datagrams := 0, 0; receipts < turnReceipts && datagrams < turnDatagrams; receipts++ {
		n, size, err := i.socket.Recv(i.received[:])
		if errors.Is(err, udp.ErrWouldBlock) {
			break
		}
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		if err := i.receive(i.received[:n], size, now); err != nil {
			return err
		}
		if i.emptied {
			break
		}
		datagrams += udp.Run{Bytes: i.received[:n], Size: size}.Count()
	}
	return i.drain()
}

// receive carries a run of datagrams of that size. An error means that the device is lost.
func (i *inbound) receive(run []byte, size int, now time.Duration) error {
	t := i.table.Load()
	if err := i.use(t); err != nil {
		return err
	}
	long := len(run) >= longRun*size
	i.lookBehind(len(run), size, long)
	for at := 0; at == 0 || at < len(run); at += max(size, 1) {
		if err := i.sort(t, run, at, min(at+size, len(run)), now); err != nil {
			return err
		}
	}
	if err := i.open(t, run, now); err != nil {
		return err
	}
	if long {
		return i.drain()
	}
	return nil
}

// lookBehind asks from time to time, after n bytes in bulk datagrams of that size, what still
// waits in the socket.
func (i *inbound) lookBehind(n, size int, long bool) {
	i.lose, i.emptied = false, false
	if size < bulkSize {
		return
	}
	if i.unasked += n; i.unasked >= askAfter {
		i.unasked = 0
		backlog := i.socket.Backlog()
		i.lose, i.emptied = i.standing.drop(backlog, long, i.now()), backlog == 0
	}
}

// use joins what the device takes now. No packet continues one that passed by another table.
func (i *inbound) use(t *table) error {
	if t == i.used {
		return nil
	}
	i.used = t
	err := i.drain()
	const tcp, udp = pipe.OffloadTSO4 | pipe.OffloadTSO6, pipe.OffloadUSO4 | pipe.OffloadUSO6
	i.chain.Join(t.offloads&tcp == tcp, t.offloads&udp == udp)
	return err
}

// sort adds the datagram run[at:end] to the group of its slot. What the group holds of
// another slot is opened first.
func (i *inbound) sort(t *table, run []byte, at, end int, now time.Duration) error {
	datagram := run[at:end]
	header, err := wire.ParseHeader(datagram)
	if err != nil {
		i.counters.malformed.Add(1)
		return nil
	}
	g := &i.group
	s := g.slot
	if s == nil || s.receiveIndex != header.Index {
		s = i.find(t, header.Index, now)
	}
	if s == nil {
		i.counters.unknown.Add(1)
		return nil
	}
	if !s.epoch.receive.window.Check(header.Number) {
		i.counters.replay.Add(1)
		return nil
	}
	if header.Type == wire.TypeProbe {
		i.openProbe(t, s, header, datagram, now)
		return nil
	}
	if g.slot != s || g.count == len(g.jobs) {
		if err := i.open(t, run, now); err != nil {
			return err
		}
		g.slot = s
	}
	g.of[g.count] = header
	j := &g.jobs[g.count]
	j.Sealed, j.Size = at+wire.HeaderSize, len(datagram)-wire.Overhead
	keys.PutNonce(&j.Nonce, &s.epoch.receive.key.IV, s.generation, header.Number)
	g.count++
	return nil
}

// find returns the slot of an index, unless its key has ended.
func (i *inbound) find(t *table, index wire.Index, now time.Duration) *slot {
	s := t.find(index)
	if s == nil {
		return nil
	}
	if t.expired(s.epoch, now) || s.epoch.receive.failed.Load() >= i.limits.FailedOpens {
		i.signal()
		return nil
	}
	return s
}

// open opens the group and passes on what is authentic. Datagrams that can only continue
// what the chain holds are opened by one call, others one by one.
func (i *inbound) open(t *table, run []byte, now time.Duration) error {
	g := &i.group
	var err error
	for first := 0; first < g.count && err == nil; {
		n := i.place(first)
		if n < 2 {
			n = 1
			err = i.openOne(t, run, first)
		} else {
			err = i.openMany(t, run, first, n)
		}
		first += n
	}
	i.book(g.slot, now)
	g.count, g.slot = 0, nil
	return err
}

// place says where the plaintexts from job first on go if they continue the chain, and
// returns how many there is room for.
func (i *inbound) place(first int) int {
	g := &i.group
	end, overlap, ok := i.chain.Tail()
	if !ok || overlap > aead.MaxHead {
		return 0
	}
	n := 0
	for k := first; k < g.count; k++ {
		j := &g.jobs[k]
		if j.Size < overlap || end+j.Size > len(i.opened) {
			break
		}
		j.Plain, j.HeadSize, j.Head = end-overlap, overlap, k*aead.MaxHead
		end += j.Size - overlap
		n++
	}
	return n
}

// openOne opens job k into the room that the chain has for it.
func (i *inbound) openOne(t *table, run []byte, k int) error {
	g := &i.group
	j := &g.jobs[k]
	room, err := i.room(j.Size)
	if room == nil || err != nil {
		return err
	}
	i.nonce = j.Nonce
	packet, err := g.slot.epoch.receive.cipher.Open(room, i.nonce[:],
		run[j.Sealed:][:j.Size+wire.TagSize], run[j.Sealed-wire.HeaderSize:j.Sealed])
	if err != nil {
		i.chain.Reject()
		i.forged(g.slot)
		return nil
	}
	if !i.commit(g.slot, g.of[k].Number, j.Size) {
		i.chain.Reject()
		return nil
	}
	i.pass(t, g.of[k].Flags, packet)
	return nil
}

// room returns where a packet of n bytes is to be opened. It writes what is in the way.
func (i *inbound) room(n int) ([]byte, error) {
	for {
		if room := i.chain.Room(n); room != nil {
			return room, nil
		}
		p := i.chain.Take()
		if p == nil {
			i.counters.malformed.Add(1) // longer than any packet
			return nil, nil
		}
		if err := i.write(p); err != nil {
			return nil, err
		}
	}
}

// openMany opens n jobs, which were placed, by one call.
func (i *inbound) openMany(t *table, run []byte, first, n int) error {
	g := &i.group
	g.batch = aead.Batch{Plain: i.opened[:], Sealed: run, Heads: flat(&g.heads), Jobs: g.jobs[first : first+n]}
	g.slot.epoch.receive.cipher.OpenBatch(&g.batch)
	for k := first; k < first+n; k++ {
		j := &g.jobs[k]
		if !j.OK {
			i.forged(g.slot)
			continue
		}
		if !i.commit(g.slot, g.of[k].Number, j.Size) || i.extend(k) {
			continue
		}
		packet, err := i.replace(j, g.heads[k][:j.HeadSize])
		if err != nil {
			return err
		}
		if packet != nil {
			i.pass(t, g.of[k].Flags, packet)
		}
	}
	return nil
}

// extend passes the packet of job k to the chain if its headers alone show that it may pass
// because the one before did: all that pass looks at is the same in both.
func (i *inbound) extend(k int) bool {
	g := &i.group
	j := &g.jobs[k]
	return !i.lose && g.of[k].Flags&wire.FlagPartialChecksum != 0 && g.slot.epoch.partial &&
		i.chain.Extend(j.Plain, g.heads[k][:j.HeadSize], j.Size)
}

// replace puts a packet that was opened by openMany together. It writes what is in the way.
func (i *inbound) replace(j *aead.Job, head []byte) ([]byte, error) {
	for {
		if packet := i.chain.Place(j.Plain, head, j.Size); packet != nil {
			return packet, nil
		}
		p := i.chain.Take()
		if p == nil {
			i.counters.malformed.Add(1)
			return nil, nil
		}
		if err := i.write(p); err != nil {
			return nil, err
		}
	}
}

// forged counts a datagram that did not open.
func (i *inbound) forged(s *slot) {
	i.counters.auth.Add(1)
	s.epoch.receive.failed.Add(1)
}

// pass hands a received packet to the chain, if it may pass. The chain is waiting for it, or
// for its rejection.
func (i *inbound) pass(t *table, flags wire.Flags, packet []byte) {
	flagged := flags&wire.FlagPartialChecksum != 0
	switch {
	case i.lose: // it was received, so nothing is missing
		i.lose = false
		i.counters.early.Add(1)
		i.chain.Reject()
	case !wellFormed(i.mode, packet), flagged && !i.group.slot.epoch.partial:
		i.counters.malformed.Add(1)
		i.chain.Reject()
	case i.mode == pipe.ModeTUN && !t.sources.permit(packet):
		i.counters.source.Add(1)
		i.chain.Reject()
	case i.chain.Add(flagged) == segment.Malformed:
		i.counters.malformed.Add(1)
	}
}

// commit lets an authentic datagram through the window once. It is in the counters after
// the next call of book.
func (i *inbound) commit(s *slot, n wire.PacketNumber, payload int) bool {
	if !s.epoch.receive.window.Commit(n) {
		i.counters.replay.Add(1)
		return false
	}
	i.accepted.packets++
	i.accepted.bytes += payload
	return true
}

// book keeps account of what was received in s.
func (i *inbound) book(s *slot, now time.Duration) {
	a := i.accepted
	i.accepted = accepted{}
	if a.packets == 0 {
		return
	}
	r := &s.epoch.receive
	if r.count(&i.limits, a.packets, a.bytes) {
		i.signal()
	}
	missing := r.window.Missing()
	i.counters.missing.Add(missing - r.missing) // modulo 2^64: it falls, too
	r.missing = missing
	i.counters.received.Add(uint64(a.packets))
	i.counters.last.Store(int64(now))
	if !s.heard.Load() {
		s.heard.Store(true)
		i.signal()
	}
}

// openProbe opens a probe apart from all packets.
func (i *inbound) openProbe(t *table, s *slot, h wire.Header, datagram []byte, now time.Duration) {
	r := &s.epoch.receive
	keys.PutNonce(&i.nonce, &r.key.IV, s.generation, h.Number)
	payload, err := r.cipher.Open(i.probed[:0], i.nonce[:], datagram[wire.HeaderSize:], datagram[:wire.HeaderSize])
	if err != nil {
		i.forged(s)
		return
	}
	if i.commit(s, h.Number, len(payload)) {
		i.book(s, now)
		i.probe(t, s, payload)
	}
}
