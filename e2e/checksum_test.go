package e2e

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"tund/e2e/lab"
)

// Hosts behind a tunnel, on wires without any offload: where frames leave for them, all
// that crossed the tunnel with a checksum not yet complete, or as a part of a
// super-packet, must have become what the sender would have sent over such a wire.
//
//	left ── to-left, alpha, tunnel, beta, to-right ── right
//	         routers with a TUN, or bridges with a TAP
//
// In each case the wire at right is bare; where that at left has its offloads, left gives
// super-packets with partial checksums to alpha, else alpha joins what it receives.
type behind struct {
	*lab.Pair
	left, right         *lab.Node
	leftWire, rightWire *lab.Link
	// addresses of left and right, pair by pair
	addresses [][2]string
	mtu       int
}

func TestChecksumsAreRightOnHostsBehindRouters(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{true, false} {
		t.Run(fmt.Sprintf("bare at both ends %v", bare), func(t *testing.T) {
			t.Parallel()
			const mtu = 1400
			p := newPair(t, lab.PairOptions{})
			b := newBehind(t, p, mtu, bare)
			for _, version := range []int{4, 6} {
				b.addresses = append(b.addresses, [2]string{
					b.leftWire.Addr(b.left, version).String(), b.rightWire.Addr(b.right, version).String(),
				})
			}
			p.AlphaTable.Set("beta", "routes", `["10.9.3.0/24", "fd09:0:0:3::/64"]`)
			p.BetaTable.Set("alpha", "routes", `["10.9.2.0/24", "fd09:0:0:2::/64"]`)
			p.Alpha.Configure(p.AlphaTable)
			p.Beta.Configure(p.BetaTable)
			for _, n := range []*lab.Node{p.Alpha, p.Beta} {
				forward(t, n)
			}
			for _, version := range []int{4, 6} {
				b.left.IP("route", "add", "default", "via", b.leftWire.Addr(p.Alpha, version).String())
				b.right.IP("route", "add", "default", "via", b.rightWire.Addr(p.Beta, version).String())
			}
			p.Up()
			b.wantRight(t, bare)
		})
	}
}

func TestChecksumsAreRightOnHostsBehindBridges(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{true, false} {
		t.Run(fmt.Sprintf("bare at both ends %v", bare), func(t *testing.T) {
			t.Parallel()
			const mtu = 1500
			p := newPair(t, lab.PairOptions{Mode: "tap", MTU: 9000, Extra: []string{`bridge = "br0"`, fmt.Sprintf("mtu = %d", mtu)}})
			p.AlphaTable.Unset("beta", "addresses")
			p.BetaTable.Unset("alpha", "addresses")
			p.Alpha.Configure(p.AlphaTable)
			p.Beta.Configure(p.BetaTable)
			b := newBehind(t, p, mtu, bare)
			for i, wire := range []*lab.Link{b.leftWire, b.rightWire} {
				node, host := []*lab.Node{p.Alpha, p.Beta}[i], []*lab.Node{b.left, b.right}[i]
				node.AddLink("br0", "type", "bridge")
				node.IP("link", "set", "br0", "mtu", fmt.Sprint(mtu), "up")
				node.IP("addr", "flush", "dev", wire.Interface(node))
				node.IP("link", "set", wire.Interface(node), "master", "br0")
				host.IP("addr", "add", fmt.Sprintf("192.168.50.%d/24", i+1), "dev", wire.Interface(host))
				host.IP("addr", "add", fmt.Sprintf("fd50::%d/64", i+1), "dev", wire.Interface(host), "nodad")
			}
			b.addresses = [][2]string{{"192.168.50.1", "192.168.50.2"}, {"fd50::1", "fd50::2"}}
			p.Up()
			b.wantRight(t, bare)
			if !bare { // only a wire with offloads takes such frames
				b.wantTaggedRight(t)
			}
		})
	}
}

// newBehind connects a host to each node of a pair.
func newBehind(t *testing.T, p *lab.Pair, mtu int, bare bool) *behind {
	t.Helper()
	b := &behind{Pair: p, left: p.Lab.Node("left"), right: p.Lab.Node("right"), mtu: mtu}
	b.leftWire, b.rightWire = p.Lab.Link(b.left, p.Alpha, mtu), p.Lab.Link(p.Beta, b.right, mtu)
	if err := b.rightWire.Bare(p.Beta); err != nil {
		t.Fatal(err)
	}
	if bare {
		if err := b.leftWire.Bare(p.Alpha); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// wantRight moves streams and datagrams between the hosts, both ways, and fails the test
// unless all that comes in at a bare wire is right. At the other one the verifier must
// see that it is not.
func (b *behind) wantRight(t *testing.T, bare bool) {
	t.Helper()
	left := b.left.Verify(b.leftWire.Interface(b.left), b.mtu)
	right := b.right.Verify(b.rightWire.Interface(b.right), b.mtu)
	for _, pair := range b.addresses {
		wantPing(t, b.left, pair[1])
		b.move(t, b.left, b.right, pair[1])
		b.move(t, b.right, b.left, pair[0])
	}
	b.wantVerified(t, right.Stop())
	if found := left.Stop(); bare {
		b.wantVerified(t, found)
	} else if found.WrongFrames == 0 {
		t.Errorf("on a wire with offloads came %+v, want incomplete checksums", found)
	}
	b.wantSuperPackets(t, bare)
}

// wantVerified fails the test if a frame was wrong, or if there were too few.
func (b *behind) wantVerified(t *testing.T, found lab.Verified) {
	t.Helper()
	t.Logf("came in: %+v", found)
	if found.WrongFrames > 0 {
		t.Errorf("%d wrong frames: %q", found.WrongFrames, found.Wrong)
	}
	if found.TCP < 2000*len(b.addresses) || found.UDP < 100*len(b.addresses) {
		t.Errorf("saw only %d segments of TCP, %d datagrams", found.TCP, found.UDP)
	}
}

// wantTaggedRight sends super-frames with a VLAN tag from left, and fails the test unless
// right gets what they stand for.
func (b *behind) wantTaggedRight(t *testing.T) {
	t.Helper()
	const times, count, size = 10, 40, 1301
	verifier, sent := b.right.Verify(b.rightWire.Interface(b.right), b.mtu), 0
	for range times {
		for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			b.left.SendSuperFrame(b.leftWire.Interface(b.left), lab.TaggedSuperFrame(100, protocol, count, size))
			sent += count // no queue shall overflow
			lab.Until(t, lab.Patience, "all frames with a tag", func() bool { return verifier.Found().Tagged >= sent })
		}
	}
	found := verifier.Stop()
	t.Logf("with a tag came in: %+v", found)
	if found.WrongFrames > 0 || found.Tagged != 2*times*count || found.TCP < times*count || found.UDP < times*count {
		t.Errorf("with a tag came in %+v, want %d segments of each protocol", found, times*count)
	}
}

// move sends a stream, and datagrams in runs of several sizes.
func (b *behind) move(t *testing.T, from, to *lab.Node, address string) {
	t.Helper()
	if _, err := from.Send(t.Context(), to, lab.Addr(address), 4<<20); err != nil {
		t.Errorf("stream from %s to %s: %v", from.Name, address, err)
	}
	for _, f := range []lab.Flow{
		{Count: 400, Size: 1201, Run: 40, Rate: 8 << 20},
		{Count: 400, Size: 64, Run: 50, Rate: 1 << 20},
		{Count: 100, Size: b.mtu - 48, Run: 1, Rate: 8 << 20}, // fills the MTU over IPv6
	} {
		got, err := from.Flow(t.Context(), to, lab.Addr(address), f)
		if err == nil {
			err = got.Check(80) // a busy machine's queues are full for a while
		}
		if err != nil {
			t.Errorf("datagrams from %s to %s: %v", from.Name, address, err)
		}
	}
}

// wantSuperPackets fails the test if what left gave to alpha as super-packets has not
// crossed as such: then nothing of this would have been tried.
func (b *behind) wantSuperPackets(t *testing.T, bare bool) {
	t.Helper()
	frames, _, err := b.Alpha.Sent(b.Link)
	if err != nil {
		t.Fatal(err)
	}
	packets := b.Alpha.MustPeer("beta").TxPackets
	t.Logf("alpha sent %d packets in %d frames", packets, frames)
	if !bare && frames*2 > packets {
		t.Errorf("alpha sent %d packets in %d frames, want super-packets", packets, frames)
	}
}
