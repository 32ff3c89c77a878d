package datapath

import (
	"errors"
	"fmt"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/tuntap"
	"tund/internal/udp"
	"tund/internal/wire"
)

// The way of a datagram in:
//
//  1. wait until the socket has one, or until the stop
//  2. receive what is there, one by one, and for each:
//  3. parse the header, find the slot of its index
//  4. ask the epoch's replay window, open, commit to the window
//  5. the first one in a slot: wake control, which tells the parent and may switch sending
//  6. a probe ends here (probes.go); it is answered, or its answer goes to control
//  7. check form and source of the inner packet
//  8. write it to the device
//
// Nothing before the end of step 4 changes anything but counters.

// inbound is the loop from the socket to the device. Its fields belong to its own
// goroutine, but for counters and turn.
type inbound struct {
	*shared
	mode   pipe.Mode
	device Device

	datagram [1 << 16]byte
	payload  [1 << 16]byte // opened from datagram: never in place
	nonce    [12]byte

	allowance allowance // of answers to probes
	answer    sealed

	counters inboundCounters
	turn     turn
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

// batch carries what the socket has now, up to a limit after which the stop is looked
// at again.
func (i *inbound) batch() error {
	now := i.now()
	for range batchPackets {
		n, err := i.socket.Recv(i.datagram[:])
		if errors.Is(err, udp.ErrWouldBlock) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		if err := i.receive(i.datagram[:n], now); err != nil {
			return err
		}
	}
	return nil
}

// receive carries one datagram. An error means that the device is lost.
func (i *inbound) receive(datagram []byte, now time.Duration) error {
	header, err := wire.ParseHeader(datagram)
	if err != nil {
		i.counters.malformed.Add(1)
		return nil
	}
	t := i.table.Load()
	s := i.find(t, header.Index, now)
	if s == nil {
		i.counters.unknown.Add(1)
		return nil
	}
	payload, ok := i.open(s, header, datagram)
	if !ok {
		return nil
	}
	i.note(s, now)
	if header.Type == wire.TypeProbe {
		i.probe(t, s, payload)
		return nil
	}
	return i.deliver(t, payload)
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

// open returns the payload of an authentic datagram that was not received before.
func (i *inbound) open(s *slot, h wire.Header, datagram []byte) ([]byte, bool) {
	r := &s.epoch.receive
	if !r.window.Check(h.Number) {
		i.counters.replay.Add(1)
		return nil, false
	}
	i.nonce = keys.Nonce(r.iv, s.generation, h.Number)
	payload, err := r.cipher.Open(i.payload[:0], i.nonce[:], datagram[wire.HeaderSize:], datagram[:wire.HeaderSize])
	if err != nil {
		i.counters.auth.Add(1)
		r.failed.Add(1)
		return nil, false
	}
	fresh, signal := r.commit(&i.limits, h.Number, len(payload))
	if !fresh {
		i.counters.replay.Add(1)
		return nil, false
	}
	if signal {
		i.signal()
	}
	return payload, true
}

// note keeps account of an authentic datagram.
func (i *inbound) note(s *slot, now time.Duration) {
	r := &s.epoch.receive
	missing := r.window.Missing()
	i.counters.missing.Add(missing - r.missing) // modulo 2^64: it falls, too
	r.missing = missing
	i.counters.received.Add(1)
	i.counters.last.Store(int64(now))
	if !s.heard.Load() {
		s.heard.Store(true)
		i.signal()
	}
}

// deliver writes an inner packet to the device.
func (i *inbound) deliver(t *table, packet []byte) error {
	if !wellFormed(i.mode, packet) {
		i.counters.malformed.Add(1)
		return nil
	}
	if i.mode == pipe.ModeTUN && !t.sources.permit(packet) {
		i.counters.source.Add(1)
		return nil
	}
	switch _, err := i.device.Write(packet); {
	case errors.Is(err, tuntap.ErrGone):
		return errDeviceGone
	case err != nil:
		i.counters.device.Add(1)
	default:
		i.counters.packets.Add(1)
		i.counters.bytes.Add(uint64(len(packet)))
	}
	return nil
}
