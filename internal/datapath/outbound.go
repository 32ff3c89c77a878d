package datapath

import (
	"errors"
	"fmt"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/tuntap"
	"tund/internal/wire"
)

// The way of a packet out:
//
//  1. wait until the device has one, or until the stop
//  2. read what is there, each packet behind room for its header, until nothing is
//     left or the batch is full; never wait for more
//  3. take the sending key, reserve a packet number for each by one addition
//  4. put the header in front, seal in place, the tag behind
//  5. send all of them in one call
//  6. count

const (
	maxDatagram = 65507 // over IPv4; the kernel refuses more
	maxPayload  = maxDatagram - wire.Overhead

	// A batch ends after the packet that reaches one of these.
	batchPackets = 64
	batchBytes   = 64 << 10
)

// outbound is the loop from the device to the socket. Its fields belong to its own
// goroutine, but for counters and turn.
type outbound struct {
	*shared
	mode   pipe.Mode
	device Device

	// One datagram behind the other, with room for a whole one behind a batch that is
	// all but full. Memory that no packet has reached yet costs nothing.
	buffer    [batchBytes + maxDatagram]byte
	datagrams [batchPackets][]byte
	nonce     [12]byte

	counters outboundCounters
	turn     turn
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
		err = o.batch()
		o.turn.end()
		if err != nil {
			return err
		}
	}
}

// batch carries what the device has now.
func (o *outbound) batch() error {
	count, payload, err := o.read()
	if err != nil || count == 0 {
		return err
	}
	now := o.now()
	if !o.seal(o.table.Load(), now, count, payload) {
		o.counters.noKey.Add(uint64(count))
		return nil
	}
	return o.send(now, o.datagrams[:count], payload)
}

// read fills the buffer with datagrams still without header and tag. It returns how
// many there are and the sum of their payloads.
func (o *outbound) read() (count, payload int, err error) {
	end := 0
	for tries := 0; tries < batchPackets && end < batchBytes; tries++ {
		room := o.buffer[end+wire.HeaderSize:][:maxPayload]
		n, err := o.device.Read(room)
		switch {
		case err == nil && wellFormed(o.mode, room[:n]):
			o.datagrams[count] = o.buffer[end : end+n+wire.Overhead]
			end += n + wire.Overhead
			payload += n
			count++
		case errors.Is(err, tuntap.ErrWouldBlock):
			return count, payload, nil
		case err == nil, errors.Is(err, tuntap.ErrMalformed), errors.Is(err, tuntap.ErrTooLong):
			o.counters.malformed.Add(1)
		default:
			return 0, 0, deviceError("read", err)
		}
	}
	return count, payload, nil
}

// seal completes the first count datagrams. It is false if there is no key for them.
func (o *outbound) seal(t *table, now time.Duration, count, payload int) bool {
	s := t.send
	if s == nil {
		return false
	}
	if t.expired(s.epoch, now) {
		o.signal()
		return false
	}
	numbers := s.epoch.send.reserve(&o.limits, count, payload)
	if numbers.signal {
		o.signal()
	}
	if !numbers.ok {
		return false
	}
	for i, d := range o.datagrams[:count] {
		o.sealOne(s, numbers.first+wire.PacketNumber(i), d)
	}
	return true
}

// sealOne writes the header in front of the payload that lies in d, and seals.
func (o *outbound) sealOne(s *slot, n wire.PacketNumber, d []byte) {
	header := wire.Header{Type: wire.TypeData, Index: s.sendIndex, Number: n}.Append(d[:0])
	o.nonce = keys.Nonce(s.epoch.send.iv, s.generation, n)
	body := d[wire.HeaderSize : len(d)-wire.TagSize]
	s.epoch.send.cipher.Seal(body[:0], o.nonce[:], body, header)
}

// send hands the datagrams to the kernel. The socket counts what was not taken.
func (o *outbound) send(now time.Duration, datagrams [][]byte, payload int) error {
	sent, err := o.socket.SendBatch(datagrams)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if sent > 0 {
		o.lastSent.Store(int64(now))
	}
	o.counters.packets.Add(uint64(sent))
	o.counters.bytes.Add(uint64(payload * sent / len(datagrams))) // nobody knows which were sent
	return nil
}

// deviceError names what the parent waits for: a device that was removed.
func deviceError(operation string, err error) error {
	if errors.Is(err, tuntap.ErrGone) {
		return errDeviceGone
	}
	return fmt.Errorf("device: %s: %w", operation, err)
}
