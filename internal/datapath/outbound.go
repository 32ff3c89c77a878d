package datapath

import (
	"errors"
	"fmt"
	"time"

	"tund/internal/aead"
	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/segment"
	"tund/internal/tuntap"
	"tund/internal/udp"
	"tund/internal/wire"
)

// The way of a packet out:
//
//  1. wait until the device has one, or until the stop
//  2. read what is there, packets and super-packets, until nothing is left or the batch is
//     full; never wait for more
//  3. find the segments of each: a job for each of them says from where to where it is to
//     be sealed. Their headers stay aside, as they will lie over the payload before
//  4. take the sending key, reserve a packet number for each job by one addition
//  5. write all datagram headers, seal all jobs by one call; where they were read, the next
//     packets of the batch are
//  6. send all datagrams by one call, equal sizes as one run
//  7. count
//
// Nothing is copied in between: what is sealed lies where it was read.

const (
	maxDatagram = 65507 // over IPv4; the kernel refuses more
	maxPayload  = maxDatagram - wire.Overhead

	// maxRead is the longest super-packet, a frame with two tags, behind its header, and the
	// byte that shows that it was read whole.
	maxRead = tuntap.HeaderSize + 14 + 8 + 1<<16 + 1

	// A batch ends after the packet that reaches one of these. Two super-packets are one, as
	// the other end is woken once for both; more would keep waiting what comes next.
	batchPackets = 64
	batchBytes   = 64 << 10

	// sealBytes is how much is read before it is sealed: while it is in the processor's
	// nearest caches, and not one by one where packets are small.
	sealBytes = 16 << 10

	// maxJobs is how many datagrams are sent at once. A super-packet that has more, or is
	// longer when sealed than maxSealed leaves room for, takes several rounds.
	maxJobs   = 2 * batchPackets
	maxSealed = batchBytes + 5<<14
)

// outbound is the loop from the device to the socket. Its fields belong to its own
// goroutine, but for counters and turn.
type outbound struct {
	*shared
	mode     pipe.Mode
	device   Device
	splitter segment.Splitter

	// Memory that no packet has reached yet costs nothing.
	plain  [sealBytes + maxRead]byte    // as read
	sealed [maxSealed]byte              // as sent
	heads  [maxJobs * aead.MaxHead]byte // headers of segments

	// The jobs that are not sealed yet.
	count, end, payload int // jobs, bytes of sealed with theirs, bytes of payload
	head                int // bytes of heads
	jobs                [maxJobs]aead.Job
	flags               [maxJobs]wire.Flags
	batch               aead.Batch

	// The round: what is sealed and not sent yet.
	round    round
	runs     []udp.Run // in runStore
	runStore [maxJobs]udp.Run

	counters outboundCounters
	turn     turn
}

// round is datagrams, the bytes that they take, and those of payload in them.
type round struct{ count, end, payload int }

func newOutbound(sh *shared, mode pipe.Mode, device Device) *outbound {
	o := &outbound{shared: sh, mode: mode, device: device}
	o.runs = o.runStore[:0]
	return o
}

// run moves packets until the stop, or until the device or socket is lost.
func (o *outbound) run() error {
	for {
		err := o.device.Wait(o.stop.FD())
		if errors.Is(err, tuntap.ErrStopped) {
			return nil
		}
		if err != nil {
			return deviceError("wait", err)
		}
		o.turn.begin()
		err = o.work()
		o.turn.end()
		if err != nil {
			return err
		}
	}
}

// maxBatches bounds the batches after which the stop is looked at again.
const maxBatches = 16

// work carries what the device has now. What was read is sent, whatever happens.
func (o *outbound) work() error {
	for range maxBatches {
		more, err := o.carry()
		if err != nil || !more || o.halting.Load() {
			return err
		}
	}
	return nil
}

// carry reads and sends one batch. It says whether the device may have more.
func (o *outbound) carry() (more bool, err error) {
	t, now := o.table.Load(), o.now()
	at, sum := 0, 0
	for tries := 0; tries < batchPackets && sum < batchBytes; tries++ {
		n, err := o.device.Read(o.plain[at : at+maxRead])
		switch {
		case err == nil:
			if err := o.take(t, now, at, n); err != nil {
				return false, err
			}
			at, sum = at+n, sum+n
			if at >= sealBytes {
				o.seal(t, now)
				at = 0
			}
		case errors.Is(err, tuntap.ErrWouldBlock):
			return false, o.flush(t, now)
		case errors.Is(err, tuntap.ErrMalformed), errors.Is(err, tuntap.ErrTooLong):
			o.counters.malformed.Add(1)
		default:
			return false, deviceError("read", err)
		}
	}
	return true, o.flush(t, now)
}

// take makes jobs of the packet of n bytes, header included, that was read to at.
func (o *outbound) take(t *table, now time.Duration, at, n int) error {
	packet := o.plain[at+tuntap.HeaderSize : at+n]
	h, err := segment.ParseVirtioHeader(o.plain[at:][:tuntap.HeaderSize])
	partial := t.send != nil && t.send.epoch.partial
	if err != nil || !wellFormed(o.mode, packet) || o.splitter.Begin(segment.Mode(o.mode), h, packet, partial) != nil {
		o.counters.malformed.Add(1)
		return nil
	}
	if o.splitter.Completed() {
		o.counters.checksums.Add(1)
	}
	at += tuntap.HeaderSize
	if o.splitter.HeaderSize() > aead.MaxHead {
		return o.takeSlowly(t, now, at, int(h.Size))
	}
	for {
		headers, s, ok := o.splitter.NextAside(o.heads[o.head:o.head])
		if !ok {
			return nil
		}
		if !o.fits(len(s)) {
			headers, err = o.makeRoom(t, now, headers)
			if err != nil {
				return err
			}
		}
		o.add(at, len(s), len(headers))
		at += int(h.Size)
	}
}

// takeSlowly is for headers that a job cannot have: each segment is sealed before the
// headers of the next are written over it.
func (o *outbound) takeSlowly(t *table, now time.Duration, at, size int) error {
	for {
		if err := o.flush(t, now); err != nil {
			return err
		}
		s, ok := o.splitter.Next()
		if !ok {
			return nil
		}
		o.add(at, len(s), 0)
		at += size
	}
}

// fits says whether there is room for one more job of so many bytes of payload.
func (o *outbound) fits(payload int) bool {
	return o.round.count+o.count < maxJobs && o.end+payload+wire.Overhead <= maxSealed
}

// makeRoom sends the round and moves the headers of the next job to the front.
func (o *outbound) makeRoom(t *table, now time.Duration, headers []byte) ([]byte, error) {
	if err := o.flush(t, now); err != nil {
		return nil, err
	}
	return append(o.heads[:0], headers...), nil
}

// add makes a job of the segment of size bytes at plain[at:], whose headers are the next
// bytes of heads.
func (o *outbound) add(at, size, headers int) {
	if size > maxPayload {
		o.counters.malformed.Add(1)
		return
	}
	j := &o.jobs[o.count]
	j.Plain, j.Sealed, j.Size = at, o.end+wire.HeaderSize, size
	j.Head, j.HeadSize = o.head, headers
	o.flags[o.count] = 0
	if o.splitter.Partial() {
		o.flags[o.count] = wire.FlagPartialChecksum
	}
	o.head += headers
	o.end += size + wire.Overhead
	o.payload += size
	o.count++
}

// flush seals what is left and sends the round.
func (o *outbound) flush(t *table, now time.Duration) error {
	o.seal(t, now)
	if o.round.count == 0 {
		return nil
	}
	err := o.send(now)
	o.round, o.end, o.runs = round{}, 0, o.runStore[:0]
	return err
}

// seal does the jobs and adds them to the round, or drops them if there is no key for them.
func (o *outbound) seal(t *table, now time.Duration) {
	if o.count == 0 {
		return
	}
	if s, first := o.reserve(t, now); s != nil {
		o.sealJobs(s, first)
		o.round.payload += o.payload
	} else {
		o.counters.noKey.Add(uint64(o.count))
		o.end = o.round.end
	}
	o.count, o.payload, o.head = 0, 0, 0
}

// reserve returns the key for the jobs and the first of their packet numbers, or nil.
func (o *outbound) reserve(t *table, now time.Duration) (*slot, wire.PacketNumber) {
	s := t.send
	if s == nil {
		return nil, 0
	}
	if t.expired(s.epoch, now) {
		o.signal()
		return nil, 0
	}
	numbers := s.epoch.send.reserve(&o.limits, o.count, o.payload)
	if numbers.signal {
		o.signal()
	}
	if !numbers.ok {
		return nil, 0
	}
	return s, numbers.first
}

// sealJobs seals all jobs by one call.
func (o *outbound) sealJobs(s *slot, first wire.PacketNumber) {
	header := wire.Header{Type: wire.TypeData, Index: s.sendIndex, Number: first}
	for i := range o.jobs[:o.count] {
		j := &o.jobs[i]
		header.Flags = o.flags[i]
		header.Append(o.sealed[j.Sealed-wire.HeaderSize:][:0])
		keys.PutNonce(&j.Nonce, &s.epoch.send.key.IV, s.generation, header.Number)
		header.Number++
		o.join(j.Size + wire.Overhead)
	}
	o.batch = aead.Batch{Plain: o.plain[:], Sealed: o.sealed[:o.end], Heads: o.heads[:], Jobs: o.jobs[:o.count]}
	s.epoch.send.cipher.SealBatch(&o.batch)
}

// join adds a datagram of so many bytes at the end of the round to the last run, if that has
// the same size and has not ended by a shorter one.
func (o *outbound) join(size int) {
	start := o.round.end
	o.round.end += size
	o.round.count++
	if n := len(o.runs); n > 0 {
		if r := &o.runs[n-1]; size <= r.Size && len(r.Bytes)%r.Size == 0 {
			r.Bytes = o.sealed[start-len(r.Bytes) : o.round.end]
			return
		}
	}
	o.runs = append(o.runs, udp.Run{Bytes: o.sealed[start:o.round.end], Size: size})
}

// send hands the datagrams to the kernel. The socket counts what was not taken.
func (o *outbound) send(now time.Duration) error {
	sent, err := o.socket.SendRuns(o.runs)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if sent > 0 {
		o.lastSent.Store(int64(now))
	}
	o.counters.packets.Add(uint64(sent))
	o.counters.bytes.Add(uint64(o.round.payload * sent / o.round.count)) // nobody knows which were sent
	return nil
}

// deviceError names what the parent waits for: a device that was removed.
func deviceError(operation string, err error) error {
	if errors.Is(err, tuntap.ErrGone) {
		return errDeviceGone
	}
	return fmt.Errorf("device: %s: %w", operation, err)
}
