package datapath

import (
	"sync/atomic"
	"time"

	"tund/internal/pipe"
)

// outboundCounters are written by outbound alone.
type outboundCounters struct {
	packets, bytes   atomic.Uint64
	malformed, noKey atomic.Uint64
	checksums        atomic.Uint64 // packets and super-packets whose sum was completed here
}

// inboundCounters are written by inbound alone.
type inboundCounters struct {
	packets, bytes                   atomic.Uint64
	auth, replay, malformed, unknown atomic.Uint64
	source, device                   atomic.Uint64
	early                            atomic.Uint64 // datagrams lost on purpose
	writes                           atomic.Uint64 // super-packets that were written singly
	received, missing                atomic.Uint64 // of all replay windows together
	last                             atomic.Int64  // when the last authentic packet came; negative: never
}

// totals are what all goroutines, and the child before, have counted.
func (c *control) totals() pipe.Totals {
	out, in, socket, base := &c.out.counters, &c.in.counters, c.socket.Counters(), &c.base
	return pipe.Totals{
		RxBytes: base.RxBytes + in.bytes.Load(), TxBytes: base.TxBytes + out.bytes.Load(),
		RxPackets: base.RxPackets + in.packets.Load(), TxPackets: base.TxPackets + out.packets.Load(),
		Drops: pipe.Drops{
			Auth:      base.Drops.Auth + in.auth.Load(),
			Replay:    base.Drops.Replay + in.replay.Load(),
			Malformed: base.Drops.Malformed + in.malformed.Load() + out.malformed.Load() + socket.Truncated,
			Unknown:   base.Drops.Unknown + in.unknown.Load(),
			Queue:     base.Drops.Queue + socket.NoBuffer + in.early.Load(),
			Source:    base.Drops.Source + in.source.Load(),
			Device:    base.Drops.Device + in.device.Load(),
			Send:      base.Drops.Send + socket.TooBig + socket.Denied + socket.Unreachable + socket.NotConnected,
			NoKey:     base.Drops.NoKey + out.noKey.Load(),
		},
		Received: in.received.Load(), Missing: in.missing.Load(),
		Fallbacks: pipe.Fallbacks{
			Sends:     base.Fallbacks.Sends + socket.Singly,
			Writes:    base.Fallbacks.Writes + in.writes.Load(),
			Checksums: base.Fallbacks.Checksums + out.checksums.Load(),
		},
		LastReceived: time.Duration(in.last.Load()), LastSent: time.Duration(c.lastSent.Load()),
		RTT: c.prober.rtt,
	}
}

// goOn makes all counters go on from those of the child before.
func (c *control) goOn(t pipe.Totals, now time.Duration) {
	c.base = t
	c.in.counters.received.Store(t.Received)
	c.in.counters.missing.Store(t.Missing)
	c.in.counters.last.Store(int64(min(t.LastReceived, now)))
	c.lastSent.Store(int64(min(t.LastSent, now)))
	c.prober.rtt = t.RTT
}

// stats are the totals and the present state.
func (c *control) stats(seq uint64, now time.Duration) pipe.Stats {
	t := c.totals()
	m := pipe.Stats{
		Seq:     seq,
		RxBytes: t.RxBytes, TxBytes: t.TxBytes, RxPackets: t.RxPackets, TxPackets: t.TxPackets,
		Drops: t.Drops, Received: t.Received, Missing: t.Missing, Fallbacks: t.Fallbacks,
		ReceiveSlots: uint8(len(c.keyring.receiving())),
		LastReceived: -1,
		RTT:          t.RTT,
		Engine:       c.keyring.engine.Name(),
		Offloads:     c.offloads,
		Sandbox:      c.walls,
	}
	if s := c.keyring.sending; s != nil {
		m.SendKey, m.SendGeneration = s.id, s.generation
		if s.epoch.partial {
			m.Offloads |= pipe.OffloadPartialCsum
		}
	}
	if t.LastReceived >= 0 {
		m.LastReceived = max(0, now-t.LastReceived)
	}
	return m
}

// patience is how long one batch may take. A full socket buffer can block a send for
// as long as a slow link needs for one packet.
const patience = 8 * time.Second

// turn lets control tell a loop that hangs from one that waits: it is odd while a
// batch is in work. What the loop does in its wait is the kernel's business.
type turn struct {
	n atomic.Uint64

	seen  uint64        // control: n when it was last looked at
	since time.Duration // control: when it was first seen so
}

func (t *turn) begin() { t.n.Add(1) }
func (t *turn) end()   { t.n.Add(1) }

// hangs says whether the same batch has been in work for longer than any can be. It
// finds out by being asked more than once.
func (t *turn) hangs(now time.Duration) bool {
	n := t.n.Load()
	if n != t.seen || n%2 == 0 {
		t.seen, t.since = n, now
		return false
	}
	return now-t.since >= patience
}
