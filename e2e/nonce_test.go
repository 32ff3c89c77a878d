package e2e

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tund/e2e/lab"
)

// What a capture between the nodes of a pair (see tunnel_test.go) proves about nonces.
//
// A nonce is made of the key's IV, the IV generation and the packet number; the index
// in the header stands for one key and one generation. So for each direction an index
// and a number must not come with two different contents; under one key the numbers go
// on over all its generations; and a child that was killed has no key that was used
// before its death, hence none of the indexes.

// stream is the data datagrams of one direction in a capture.
type stream []lab.Segment

// streams splits a capture by direction.
func streams(p *lab.Pair, capture []lab.Segment) (fromAlpha, fromBeta stream) {
	for _, segment := range capture {
		switch {
		case !segment.IsData():
		case segment.Source.Addr() == p.Link.Addr(p.Alpha, 4):
			fromAlpha = append(fromAlpha, segment)
		default:
			fromBeta = append(fromBeta, segment)
		}
	}
	return fromAlpha, fromBeta
}

// indexes returns the indexes of a stream in the order of their first use.
func (s stream) indexes() []uint32 {
	var found []uint32
	for _, segment := range s {
		if !slices.Contains(found, segment.Index()) {
			found = append(found, segment.Index())
		}
	}
	return found
}

// wantUnique fails the test if an index and a number occur with different contents.
func (s stream) wantUnique(t *testing.T, name string) {
	t.Helper()
	type place struct {
		index  uint32
		number uint64
	}
	seen := map[place]string{}
	again := 0
	for _, segment := range s {
		at := place{segment.Index(), segment.Number()}
		content, ok := seen[at]
		if ok && content != string(segment.Payload) {
			t.Errorf("from %s: index %06x, number %d occurs with two contents", name, at.index, at.number)
		}
		if ok {
			again++
		}
		seen[at] = string(segment.Payload)
	}
	t.Logf("from %s: %d datagrams, %d indexes, %d sent again unchanged", name, len(s), len(s.indexes()), again)
	if len(s) == 0 {
		t.Errorf("from %s: nothing captured", name)
	}
}

// wantFresh fails the test if an index that was in use before the death of the sender's
// child is used by its successor. What the dead one had handed to the kernel may pass
// after its death, but only before the first datagram with an index never seen.
func (s stream) wantFresh(t *testing.T, name string, death time.Time) {
	t.Helper()
	old := map[uint32]bool{}
	successor := false
	for _, segment := range s {
		switch {
		case segment.At.Before(death):
			old[segment.Index()] = true
		case !old[segment.Index()]:
			successor = true
		case successor:
			t.Errorf("from %s: index %06x was in use before the child's death and is after it", name, segment.Index())
			return
		}
	}
	if !successor {
		t.Errorf("from %s: nothing was sent after the child's death", name)
	}
}

func TestNoNonceRepeatsOverRotationsAndDeathsOfChildren(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	capture := p.Alpha.Capture(p.Link.Interface(p.Alpha))
	ping := p.Alpha.StartPing(lab.BetaInner4)
	type death struct {
		of *lab.Node
		at time.Time
	}
	var deaths []death
	for _, victim := range []*lab.Node{p.Alpha, p.Beta, p.Alpha, p.Beta} {
		rotate(t, p.Alpha, "rotate-key", "beta")
		rotate(t, p.Beta, "rotate-iv", "alpha")
		rotate(t, p.Alpha, "rotate-iv", "beta")
		status := victim.Status().Peers[0]
		deaths = append(deaths, death{victim, time.Now()})
		kill(t, status.ChildPID)
		victim.WaitPeer(status.Name, lab.Patience, "a new child", func(s lab.PeerStatus) bool {
			return s.ChildPID != 0 && s.ChildPID != status.ChildPID && s.State == "up"
		})
		p.WaitUp()
		time.Sleep(betweenRotations)
	}
	ping.Stop()
	fromAlpha, fromBeta := streams(p, capture.Stop())
	fromAlpha.wantUnique(t, "alpha")
	fromBeta.wantUnique(t, "beta")
	for _, d := range deaths {
		if d.of == p.Alpha {
			fromAlpha.wantFresh(t, "alpha", d.at)
		} else {
			fromBeta.wantFresh(t, "beta", d.at)
		}
	}
}

// Under one key the packet numbers go on over its IV generations: in a capture without
// a rotation of keys no number occurs twice in a direction, whatever its index.
func TestPacketNumbersGoOnOverIVGenerations(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	capture := p.Alpha.Capture(p.Link.Interface(p.Alpha))
	ping := p.Alpha.StartPing(lab.BetaInner4)
	for range 4 {
		rotate(t, p.Alpha, "rotate-iv", "beta")
		time.Sleep(200 * time.Millisecond)
	}
	ping.Stop()
	fromAlpha, fromBeta := streams(p, capture.Stop())
	for name, s := range map[string]stream{"alpha": fromAlpha, "beta": fromBeta} {
		s.wantUnique(t, name)
		if used := len(s.indexes()); used < 5 {
			t.Errorf("from %s: %d indexes over 5 generations", name, used)
		}
		last := map[uint64]uint32{}
		for _, segment := range s {
			if index, ok := last[segment.Number()]; ok && index != segment.Index() {
				t.Errorf("from %s: number %d occurs with indexes %06x and %06x", name, segment.Number(), index, segment.Index())
			}
			last[segment.Number()] = segment.Index()
		}
	}
}

// The whole data channel is one pair of addresses and one port.
func TestDataUsesOnePortOnBothEnds(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	for _, segment := range record(t, p) {
		want := [2]netip.AddrPort{
			netip.AddrPortFrom(p.Link.Addr(p.Alpha, 4), lab.Port),
			netip.AddrPortFrom(p.Link.Addr(p.Beta, 4), lab.Port),
		}
		if got := [2]netip.AddrPort{segment.Source, segment.Dest}; got != want {
			t.Fatalf("a datagram from %v to %v, want %v to %v", got[0], got[1], want[0], want[1])
		}
	}
}
