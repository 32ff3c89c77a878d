package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"tund/e2e/lab"
)

// disturbed is what the relay between two nodes does to datagrams: of 10,000.
var disturbed = lab.Disturbance{Lose: 20, Repeat: 50, Delay: 60}

// transferMB is how much each stream of a transfer carries, in MB. TUND_TRANSFER_MB asks
// for another amount; a transfer has four streams, and there are ten transfers.
func transferMB(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("TUND_TRANSFER_MB")
	switch {
	case text == "" && os.Getenv("TUND_RACE") != "":
		return 2
	case text == "":
		return 8
	}
	mb, err := strconv.ParseInt(text, 10, 32)
	if err != nil || mb < 1 {
		t.Fatalf("TUND_TRANSFER_MB: %q is no number of megabytes", text)
	}
	return mb
}

// What goes through a tunnel arrives whole, whatever the wire does to single datagrams
// and whichever offloads are in use at either end. TCP is hashed at both ends; each
// datagram of UDP is compared, and none may arrive twice.
func TestTransfersArriveWholeOverAWireThatDisturbs(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name        string
		mode        string
		node        []string
		alpha, beta string // offload
		segmented   bool
	}{
		{"offloads on", "tun", nil, "auto", "auto", false},
		{"offloads on, segmenting wire", "tun", nil, "auto", "auto", true},
		{"offloads on, standard library", "tap", []string{`engine = "go"`}, "auto", "auto", false},
		{"offloads on, ChaCha20, segmenting wire", "tap", []string{`aead = ["chacha20-poly1305"]`}, "auto", "auto", true},
		{"offloads off at one end", "tun", nil, "auto", "off", false},
		{"offloads off", "tap", nil, "off", "off", false},
		{"offloads off, standard library, segmenting wire", "tun", []string{`engine = "go"`}, "off", "off", true},
	}
	for _, c := range cases {
		t.Run(c.mode+", "+c.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, lab.PairOptions{Mode: c.mode})
			relay := p.Lab.Relay(p.Alpha, p.Beta, 1500, disturbed)
			p.AlphaTable.Set("beta", "offload", strconv.Quote(c.alpha))
			p.AlphaTable.Set("beta", "endpoints", fmt.Sprintf(`["%v:%d"]`, relay.Addr(p.Beta, 4), lab.Port))
			p.BetaTable.Set("alpha", "offload", strconv.Quote(c.beta))
			p.AlphaTable.Node, p.BetaTable.Node = c.node, c.node
			p.Alpha.Configure(p.AlphaTable)
			p.Beta.Configure(p.BetaTable)
			if err := relay.Segment(c.segmented); err != nil {
				t.Fatal(err)
			}
			p.Up()
			wantOffloads(t, p.Alpha, "beta", c.alpha)
			wantOffloads(t, p.Beta, "alpha", c.beta)
			wantTransfer(t, p)
			wantDisturbed(t, p.Alpha, "beta", relay, c.alpha == "auto" && !c.segmented)
			wantDisturbed(t, p.Beta, "alpha", relay, c.beta == "auto" && !c.segmented)
		})
	}
}

// The same where the kernel loses packets on their way in: whole super-packets, single
// packets on a wire that segments, and on one whose driver makes no checksums either.
func TestTransfersArriveWholeOverAWireThatLoses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*lab.Link) error{
		"whole":      func(*lab.Link) error { return nil },
		"segmenting": func(wire *lab.Link) error { return wire.Segment(true) },
		"bare":       func(wire *lab.Link) error { return wire.Bare(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, lab.PairOptions{Version: 6})
			if err := change(p.Link); err != nil {
				t.Fatal(err)
			}
			p.Up()
			for _, n := range []*lab.Node{p.Alpha, p.Beta} {
				if _, err := n.LoseEvery(p.Link, 60); err != nil {
					t.Fatal(err)
				}
			}
			wantTransfer(t, p)
			for peer, n := range map[string]*lab.Node{"beta": p.Alpha, "alpha": p.Beta} {
				if loss := n.MustPeer(peer).Loss; loss == nil || *loss == 0 {
					t.Errorf("%s shows no loss", n.Name)
				}
			}
		})
	}
}

// wantOffloads fails the test unless what the node has in force for a peer is what its
// configuration says: with "off", nothing of its own device and socket.
func wantOffloads(t *testing.T, n *lab.Node, peer, offload string) {
	t.Helper()
	status := n.MustPeer(peer)
	t.Logf("%s: %s, %s, offloads %v", n.Name, status.AEAD, status.Engine, status.Offload)
	for _, word := range []string{"csum", "tso4", "tso6", "udp-gso", "udp-gro"} {
		if slices.Contains(status.Offload, word) != (offload == "auto") {
			t.Errorf("%s has offloads %v in force, with offload = %q", n.Name, status.Offload, offload)
		}
	}
}

// wantTransfer moves streams and datagrams of both IP versions both ways at once.
func wantTransfer(t *testing.T, p *lab.Pair) {
	t.Helper()
	mb := transferMB(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+2*time.Duration(mb)*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var errs [8]error
	var flows [4]lab.Flowed
	start := time.Now()
	for i, from := range []*lab.Node{p.Alpha, p.Alpha, p.Beta, p.Beta} {
		to, address := p.Beta, []string{lab.BetaInner4, lab.BetaInner6, lab.AlphaInner4, lab.AlphaInner6}[i]
		if from == p.Beta {
			to = p.Alpha
		}
		wg.Go(func() { _, errs[i] = from.Send(ctx, to, lab.Addr(address), mb<<20) })
		wg.Go(func() {
			// Slowly enough to last: a queue that is full for a while shall not take all.
			f := lab.Flow{Count: int(mb) * 50, Size: 400 + 300*i, Run: 1 + 10*i, Rate: max(64<<10, mb<<14)}
			flows[i], errs[4+i] = from.Flow(ctx, to, lab.Addr(address), f)
		})
	}
	wg.Wait()
	took := time.Since(start)
	if err := errors.Join(errs[:]...); err != nil {
		t.Errorf("transfer: %v", err)
		return
	}
	t.Logf("4 streams of %d MB, hashes equal, in %v: %.0f Mbit/s; datagrams %+v",
		mb, took.Round(time.Millisecond), float64(4*mb<<20)*8/1e6/took.Seconds(), flows)
	for _, f := range flows { // beside streams that fill the queues, many may be lost
		if err := f.Check(80); err != nil {
			t.Error(err)
		}
	}
}

// wantDisturbed fails the test unless the relay did what it is there for on the way from
// a node, and tund there refused what came twice, and nothing else.
func wantDisturbed(t *testing.T, n *lab.Node, peer string, relay *lab.Relay, super bool) {
	t.Helper()
	d, drops := relay.Disturbed(n), n.MustPeer(peer).Drops
	t.Logf("from %s: %v; %s drops %v", n.Name, d, n.Name, drops)
	if d.Lost == 0 || d.Repeated == 0 || d.Delayed == 0 || super != (d.Frames < d.Datagrams) {
		t.Errorf("the relay has not done its part from %s: %v", n.Name, d)
	}
	if drops["replay"] == 0 || drops["auth"] != 0 || drops["malformed"] != 0 {
		t.Errorf("drops of %s: %v", n.Name, drops)
	}
}
