package datapath

import (
	"time"

	"tund/internal/keys"
	"tund/internal/wire"
)

// Probes are rare, so they take no part in batches: control asks, inbound answers,
// each from a buffer of its own and with numbers from the counter of the send key.

// At most answersPerSecond probes are answered in any second.
const (
	answersPerSecond = 20
	answerBurst      = 4
	answerInterval   = time.Second / (answersPerSecond - answerBurst)
)

// allowance is a token bucket: answerBurst at once, then one per answerInterval.
type allowance struct {
	full time.Duration // when the bucket is full again
}

// take says whether one more is allowed now.
func (a *allowance) take(now time.Duration) bool {
	full := max(a.full, now) + answerInterval
	if full-now > answerBurst*answerInterval {
		return false
	}
	a.full = full
	return true
}

// sealed is the buffer of one goroutine for the probes that it sends.
type sealed struct {
	buffer [wire.ProbeSize + wire.Overhead]byte
	nonce  [12]byte
}

// seal makes a datagram of a probe, without padding. It is false if the key has ended.
func (d *sealed) seal(sh *shared, s *slot, p wire.Probe) ([]byte, bool) {
	numbers := s.epoch.send.reserve(&sh.limits, 1, wire.ProbeSize)
	if numbers.signal {
		sh.signal()
	}
	if !numbers.ok {
		return nil, false
	}
	header := wire.Header{Type: wire.TypeProbe, Index: s.sendIndex, Number: numbers.first}.Append(d.buffer[:0])
	body := p.Append(d.buffer[wire.HeaderSize:wire.HeaderSize], wire.ProbeSize)
	d.nonce = keys.Nonce(s.epoch.send.key.IV, s.generation, numbers.first)
	s.epoch.send.cipher.Seal(body[:0], d.nonce[:], body, header)
	return d.buffer[:], true
}

// answered is the answer to a probe, on its way from inbound to control.
type answered struct {
	probe wire.Probe
	at    time.Duration
}

// probe takes an authentic probe that was received in slot s.
func (i *inbound) probe(t *table, s *slot, plaintext []byte) {
	p, err := wire.ParseProbe(plaintext)
	if err != nil {
		i.counters.malformed.Add(1)
		return
	}
	now := i.now()
	if p.Kind == wire.ProbeRequest {
		i.reply(t, s, p, now)
		return
	}
	select {
	case i.answers <- answered{p, now}:
	default: // more answers than control ever asked for
	}
}

// reply answers in the newer of the sending slot and the one of the request: the peer
// sends with that, so it can receive it, and control is about to switch to it.
func (i *inbound) reply(t *table, s *slot, request wire.Probe, now time.Duration) {
	if t.send != nil && !s.newer(t.send.name) {
		s = t.send
	}
	if t.expired(s.epoch, now) || !i.allowance.take(now) {
		return
	}
	datagram, ok := i.answer.seal(i.shared, s, wire.Probe{
		Kind: wire.ProbeAnswer, ID: request.ID, Stamp: request.Stamp,
		Received: i.counters.received.Load(), Missing: i.counters.missing.Load(),
	})
	if ok {
		i.transmit(datagram, now)
	}
}
