package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// packetIgnoreOutgoing is PACKET_IGNORE_OUTGOING: a packet socket shows only what
	// comes in.
	packetIgnoreOutgoing = 23

	// farthest is how many datagrams a delayed one may fall behind at most.
	farthest = 80
	// oneIn is what the parts of a Disturbance are parts of.
	oneIn = 10_000
)

// Disturbance says what a relay does to the datagrams of the data channel at random:
// how many of 10,000 it loses, sends twice, and sends behind later ones.
type Disturbance struct{ Lose, Repeat, Delay int }

// Disturbed is what a relay has done, in numbers of datagrams.
type Disturbed struct {
	// Datagrams have come, in Frames: with offloads one frame stands for several.
	Datagrams, Frames       uint64
	Lost, Repeated, Delayed uint64
	// Overflowed are further losses, because somebody's queue was full.
	Overflowed uint64
}

// String returns the counts in one line.
func (d Disturbed) String() string {
	share := func(n uint64) float64 { return float64(n) * 100 / float64(max(1, d.Datagrams)) }
	return fmt.Sprintf("%d datagrams in %d frames, %.2f %% lost, %.2f %% repeated, %.2f %% delayed, %d overflowed",
		d.Datagrams, d.Frames, share(d.Lost), share(d.Repeated), share(d.Delayed), d.Overflowed)
}

// Relay is a wire between two nodes with a program in the middle that passes every
// frame on, and disturbs the datagrams of the data channel:
//
//	a ── to-relay-N ══ relay-N ══ to-relay-N ── b
type Relay struct {
	lab    *Lab
	number int
	a, b   *Node
	links  [2]*Link
	stop   chan struct{}
	ended  sync.WaitGroup
	counts [2]tally // from a to b, from b to a
}

// tally is Disturbed while it grows.
type tally struct {
	datagrams, frames, lost, repeated, delayed, overflowed atomic.Uint64
}

// Relay lays such a wire with the given MTU. It ends with the lab.
func (l *Lab) Relay(a, b *Node, mtu int, d Disturbance) *Relay {
	l.tb.Helper()
	r := &Relay{lab: l, a: a, b: b, stop: make(chan struct{})}
	name := "relay-" + strconv.Itoa(len(l.nodes))
	middle := l.Node(name)
	var sockets [2]int
	for i, n := range []*Node{a, b} {
		link := l.Link(n, middle, mtu)
		r.links[i] = link
		for _, end := range []*Node{n, middle} {
			end.IP("addr", "flush", "dev", link.Interface(end))
		}
		if r.number == 0 {
			r.number = link.number
		}
		n.IP("addr", "add", r.Addr(n, 4).String()+"/24", "dev", link.Interface(n))
		n.IP("addr", "add", r.Addr(n, 6).String()+"/64", "dev", link.Interface(n), "nodad")
		if err := middle.Do(func() (err error) {
			sockets[i], err = relaySocket(link.Interface(middle))
			return err
		}); err != nil {
			l.tb.Fatalf("node %s: relay: %v", name, err)
		}
	}
	r.run(sockets, d)
	return r
}

// relaySocket is a packet socket that carries super-packets and unfinished checksums.
func relaySocket(device string) (int, error) {
	fd, err := packetSocket(device, unix.ETH_P_ALL)
	if err != nil {
		return fd, err
	}
	return fd, errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, packetIgnoreOutgoing, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
	)
}

// Addr returns the address of one of the two nodes on the wire.
func (r *Relay) Addr(n *Node, version int) netip.Addr {
	ends := Link{a: r.a, b: r.b, number: 100 + r.number}
	return ends.Addr(n, version)
}

// Segment makes the wire take one packet of its MTU at a time, or super-packets again.
func (r *Relay) Segment(on bool) error {
	return errors.Join(r.links[0].Segment(on), r.links[1].Segment(on))
}

// Disturbed returns what was done to the datagrams from a node so far.
func (r *Relay) Disturbed(from *Node) Disturbed {
	t := &r.counts[0]
	if from == r.b {
		t = &r.counts[1]
	}
	return Disturbed{
		Datagrams: t.datagrams.Load(), Frames: t.frames.Load(), Lost: t.lost.Load(),
		Repeated: t.repeated.Load(), Delayed: t.delayed.Load(), Overflowed: t.overflowed.Load(),
	}
}

// run carries frames both ways until the lab ends.
func (r *Relay) run(sockets [2]int, d Disturbance) {
	for i := range sockets {
		way := &way{
			from: sockets[i], to: sockets[1-i], disturbance: d, tally: &r.counts[i],
			random: rand.New(rand.NewPCG(uint64(r.number), uint64(i))),
		}
		r.ended.Go(func() { // ends after stop, within the receive timeout
			if err := way.carry(r.stop); err != nil {
				r.lab.tb.Errorf("relay: %v", err)
			}
		})
	}
	r.lab.ends = append(r.lab.ends, func() {
		close(r.stop)
		r.ended.Wait()
		for _, fd := range sockets {
			_ = unix.Close(fd)
		}
	})
}

// way is one direction of a relay; it belongs to one goroutine.
type way struct {
	from, to    int
	disturbance Disturbance
	random      *rand.Rand
	held        []heldFrame
	*tally
}

// heldFrame is a datagram that waits until so many others have passed it.
type heldFrame struct {
	frame []byte // behind its virtio header
	after int
}

// carry passes on what comes until stop is closed.
func (w *way) carry(stop <-chan struct{}) error {
	buffer := make([]byte, 1<<17)
	for {
		size, _, err := unix.Recvfrom(w.from, buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN): // nothing comes that could pass
			w.release(farthest)
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENETDOWN):
			return nil // the lab ends
		case err != nil:
			return err
		default:
			w.pass(buffer[:size])
		}
		select {
		case <-stop:
			return nil
		default:
		}
	}
}

// pass handles what the socket gave: a virtio-net header, then a frame.
func (w *way) pass(data []byte) {
	if len(data) < virtioHeader {
		return
	}
	segment, ok := parse(data[virtioHeader:])
	if !ok || !segment.IsData() {
		w.send(data)
		return
	}
	w.frames.Add(1)
	size := int(binary.NativeEndian.Uint16(data[4:]))
	if data[1] != virtioUDP || size == 0 {
		size = len(segment.Payload)
	}
	count := (len(segment.Payload) + size - 1) / size
	w.datagrams.Add(uint64(count))
	fates := make([]fate, count)
	for i := range fates {
		fates[i] = w.draw()
	}
	if !slices.ContainsFunc(fates, func(f fate) bool { return f != passes }) {
		w.send(data)
		w.release(count)
		return
	}
	i := 0
	for payload := range slices.Chunk(segment.Payload, size) {
		w.apply(fates[i], segment.WithPayload(payload))
		i++
	}
}

// fate is what becomes of a datagram.
type fate int

const (
	passes fate = iota
	isLost
	isRepeated
	isDelayed
)

func (w *way) draw() fate {
	n, d := w.random.IntN(oneIn), w.disturbance
	switch {
	case n < d.Lose:
		return isLost
	case n < d.Lose+d.Repeat:
		return isRepeated
	case n < d.Lose+d.Repeat+d.Delay:
		return isDelayed
	default:
		return passes
	}
}

// apply sends one datagram as its fate wants.
func (w *way) apply(f fate, s Segment) {
	frame := make([]byte, virtioHeader, virtioHeader+len(s.Frame))
	frame = append(frame, s.Frame...)
	transport, _ := transportOf(s.Frame)
	finishChecksum(frame[virtioHeader:], transport)
	switch f {
	case isLost:
		w.lost.Add(1)
	case isDelayed:
		w.delayed.Add(1)
		w.held = append(w.held, heldFrame{frame, 1 + w.random.IntN(farthest)})
		return
	case isRepeated:
		w.repeated.Add(1)
		w.send(frame)
		if w.random.IntN(2) == 0 { // the second one late
			w.held = append(w.held, heldFrame{frame, 1 + w.random.IntN(farthest)})
		} else {
			w.send(frame)
		}
	case passes:
		w.send(frame)
	}
	w.release(1)
}

// release sends what count more datagrams have passed.
func (w *way) release(count int) {
	w.held = slices.DeleteFunc(w.held, func(h heldFrame) bool { return h.after <= 0 })
	for i := range w.held {
		if w.held[i].after -= count; w.held[i].after <= 0 {
			w.send(w.held[i].frame)
		}
	}
}

// send puts a frame behind its virtio header on the other link.
func (w *way) send(data []byte) {
	for {
		_, err := unix.Write(w.to, data)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			w.overflowed.Add(1)
		}
		return
	}
}
