package segment_test

import (
	"math/rand/v2"
	"testing"

	"tund/internal/segment"
)

// written is what a device is to be given: a header and a packet or super-packet.
type written struct {
	header segment.VirtioHeader
	packet []byte
}

// joined returns, written from nothing, what the segments of the super-packet become when
// they are joined as the kernel joins them: as long as nothing but what splitting makes
// again differs, of one size, up to a shorter one or one with PSH or FIN, and no more
// than 64 or than IP can hold. flagged says whether they come with partial checksums.
func (s spec) joined(flagged bool) []written {
	var all []written
	segments := s.segments(flagged)
	for from := 0; from < len(segments); {
		to := from + 1
		for s.mayFollow(from, to, len(segments)) {
			to++
		}
		all = append(all, s.group(from, to, segments[from], flagged))
		from = to
	}
	return all
}

// mayFollow reports whether segment number k of count may be joined to those from the
// first one on.
func (s spec) mayFollow(first, k, count int) bool {
	ip := s.headers() - s.ethernetSize()
	switch {
	case k == count || k-first == segment.MaxSegments:
		return false
	case len(s.ipOptions) > 0 || len(s.kinds) > 0:
		return false
	case ip+min(len(s.payload), (k+1)*s.size)-first*s.size > segment.MaxSuperPacket:
		return false
	case s.udp:
		return true
	default: // PSH and FIN are in the last segment of all, CWR in the first
		return s.flags&urg == 0 && (first > 0 || s.flags&cwr == 0)
	}
}

func (s spec) ethernetSize() int {
	if s.mode == segment.TUN {
		return 0
	}
	return 14 + 4*s.vlans
}

// group is what segments from one to another become; alone is the first of them.
func (s spec) group(from, to int, alone []byte, flagged bool) written {
	last := to*s.size >= len(s.payload)
	s.id += uint16(from)
	s.seq += uint32(from * s.size)
	s.payload = s.payload[from*s.size : min(to*s.size, len(s.payload))]
	if from > 0 {
		s.flags &^= cwr
	}
	if !last {
		s.flags &^= psh | fin
	}
	h, packet := s.super()
	if to-from > 1 {
		return written{h, packet}
	}
	h.Type, h.HeaderLen, h.Size = segment.GSONone, 0, 0
	if !flagged {
		h = segment.VirtioHeader{}
	}
	return written{h, alone}
}

// largeSpec is randomSpec with all the payload that fits, now and then.
func largeSpec(r *rand.Rand) spec {
	s := randomSpec(r)
	if r.IntN(3) == 0 {
		s.size = 1 + r.IntN(9000)
		s.payload = randomBytes(r, 65535-s.headers())
	}
	return s
}

// Any super-packet, split and joined again in whatever way, is byte for byte what the
// slow version makes of it.
func TestSplitAndJoinedAgainEqualsTheSlowVersionByteForByte(t *testing.T) {
	buffer := garbage(8 * segment.MinBuffer)
	var s segment.Splitter
	joined := 0
	for seed := range uint64(1000) {
		r := random(t, seed)
		spec := largeSpec(r)
		partial := r.IntN(2) == 0
		for name, sealAll := range map[string]func(*segment.Splitter) [][]byte{"in place": seal, "aside": sealAside} {
			h, packet := spec.super()
			if err := s.Begin(spec.mode, h, packet, partial); err != nil {
				t.Fatalf("seed %d: %v: %+v", seed, err, spec)
			}
			want := spec.joined(s.Partial())
			arrivals := split(spec, &s, sealAll)
			for _, many := range []bool{false, true} {
				c, d := segment.NewChain(spec.mode, buffer), &device{t: t, mode: spec.mode}
				if many {
					d.feedMany(c, buffer, arrivals)
				} else {
					d.feed(c, arrivals)
				}
				d.drain(c)
				d.compareWritten(name, want)
			}
			joined += len(arrivals) - len(want)
		}
	}
	if joined < 10_000 {
		t.Errorf("only %d packets were joined", joined)
	}
}

// split returns what a Splitter that has begun makes of a super-packet.
func split(spec spec, s *segment.Splitter, sealAll func(*segment.Splitter) [][]byte) []arrival {
	var arrivals []arrival
	partial, complete := s.Partial(), spec.segments(false)
	for k, p := range sealAll(s) {
		arrivals = append(arrivals, arrive(p, complete[k], partial))
	}
	return arrivals
}

// compareWritten compares all that the device was given.
func (d *device) compareWritten(what string, want []written) {
	d.t.Helper()
	var packets [][]byte
	for _, w := range want {
		packets = append(packets, w.packet)
	}
	comparePackets(d.t, what, d.supers, packets)
	for k, w := range want {
		if d.headers[k] != w.header {
			d.t.Fatalf("%s: header %d is %+v, want %+v", what, k, d.headers[k], w.header)
		}
	}
}
