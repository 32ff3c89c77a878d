package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tund/e2e/lab"
)

// The topology of a pair, which most tests use:
//
//	alpha                                           beta
//	10.77.0.1, fd77::1  ═════ the tunnel ═════  10.77.0.2, fd77::2
//	   tun-beta or tap-beta                        tun-alpha or tap-alpha
//	10.9.1.1, fd09:0:0:1::1  ── the link ──  10.9.1.2, fd09:0:0:1::2
//	   to-beta                                     to-alpha

func TestTunnelCarriesIPv4AndIPv6(t *testing.T) {
	t.Parallel()
	cases := []struct {
		mode    string
		version int
		aead    string
	}{
		{"tun", 4, ""},
		{"tun", 6, "chacha20-poly1305"},
		{"tap", 4, "aes-256-gcm"},
		{"tap", 6, ""},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s over IPv%d", c.mode, c.version), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, lab.PairOptions{Mode: c.mode, Version: c.version})
			if c.aead != "" {
				p.AlphaTable.Node = []string{fmt.Sprintf("aead = [%q]", c.aead)}
				p.Alpha.Configure(p.AlphaTable)
			}
			p.Up()
			for _, address := range []string{lab.BetaInner4, lab.BetaInner6} {
				wantPing(t, p.Alpha, address)
				wantPing(t, p.Alpha, address, "-s", "5952") // 6,000 bytes with the headers of IPv6
				wantStream(t, p.Alpha, p.Beta, address)
			}
			wantPing(t, p.Beta, lab.AlphaInner4, "-s", "5972") // 6,000 bytes with the headers of IPv4
			wantPing(t, p.Beta, lab.AlphaInner6)
			wantDevice(t, p, c.mode, c.aead)
		})
	}
}

// wantStream moves some megabytes of TCP and compares what arrived with what was sent.
func wantStream(t *testing.T, from, to *lab.Node, address string) {
	t.Helper()
	moved, err := from.Send(t.Context(), to, lab.Addr(address), 16<<20)
	if err != nil {
		t.Errorf("stream from %s to %s: %v", from.Name, address, err)
		return
	}
	t.Logf("stream to %s: %.0f Mbit/s", address, moved.Rate())
}

// wantDevice compares the tunnel's device with the status, and sends a packet through
// that fills its MTU and must not be fragmented.
func wantDevice(t *testing.T, p *lab.Pair, mode, aead string) {
	t.Helper()
	status := p.Alpha.MustPeer("beta")
	if status.Interface != p.AlphaDevice || status.Mode != mode || status.Transport != "udp" {
		t.Errorf("status shows device %q, mode %q, transport %q; want %q, %q, %q",
			status.Interface, status.Mode, status.Transport, p.AlphaDevice, mode, "udp")
	}
	if aead != "" && status.AEAD != aead {
		t.Errorf("status shows AEAD %q, want %q", status.AEAD, aead)
	}
	if status.AEAD != p.Beta.MustPeer("alpha").AEAD {
		t.Errorf("the two ends show different AEADs")
	}
	if device := deviceMTU(t, p.Alpha, p.AlphaDevice); device != status.MTU || device < 1280 {
		t.Errorf("device has MTU %d, status shows %d", device, status.MTU)
	}
	wantPing(t, p.Alpha, lab.BetaInner4, "-M", "do", "-s", strconv.Itoa(status.MTU-28))
	wantPing(t, p.Alpha, lab.BetaInner6, "-M", "do", "-s", strconv.Itoa(status.MTU-48))
}

// deviceMTU returns the MTU of a device on a node.
func deviceMTU(t *testing.T, n *lab.Node, device string) int {
	t.Helper()
	fields := strings.Fields(n.IP("-oneline", "link", "show", "dev", device))
	at := slices.Index(fields, "mtu")
	if at < 0 || at+1 == len(fields) {
		t.Fatalf("no MTU in %q", fields)
	}
	mtu, err := strconv.Atoi(fields[at+1])
	if err != nil {
		t.Fatal(err)
	}
	return mtu
}

// The session comes up with the second tund's first attempt, whichever that is: it does not
// wait for the back-off of a first one that dials.
func TestSessionIsUpWithTheFirstAttemptOfTheSecond(t *testing.T) {
	t.Parallel()
	for name, bothDial := range map[string]bool{"one dials": false, "both dial": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, lab.PairOptions{BothDial: bothDial})
			p.Beta.Start()
			if bothDial {
				p.Beta.WaitPeer("alpha", lab.Patience, "nobody is there", func(s lab.PeerStatus) bool { return s.LastError != "" })
			}
			p.Alpha.Start()
			p.WaitUp()
			if log := p.Alpha.Log(); strings.Contains(log, "dial failed") {
				t.Errorf("alpha had to try again:\n%s", log)
			}
			wantPing(t, p.Alpha, lab.BetaInner4)
		})
	}
}

// isUp reports whether a node answers and shows a peer as up.
func isUp(n *lab.Node, peer string) bool {
	status, err := n.TryStatus()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(status.Peers, func(p lab.PeerStatus) bool {
		return p.Name == peer && p.State == "up"
	})
}

// A name that does not resolve and a network that is down are states, not failures: tund
// starts, says what it waits for, and goes on by itself.
func TestMissingNamesAndNetworksAreStates(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	good := lab.Endpoint(p.Link.Addr(p.Beta, 4))
	p.AlphaTable.Set("beta", "endpoints", `["no-such-host.invalid:7900"]`)
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.IP("link", "set", p.Link.Interface(p.Alpha), "down")
	p.Beta.Start()
	p.Alpha.Start()
	status := p.Alpha.WaitPeer("beta", lab.Patience, "the name is named", func(s lab.PeerStatus) bool {
		return strings.Contains(s.LastError, "no-such-host.invalid")
	})
	t.Logf("without name and network alpha shows beta as %q: %s", status.State, status.LastError)
	_, value, _ := strings.Cut(good, " = ")
	p.AlphaTable.Set("beta", "endpoints", value)
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.IP("link", "set", p.Link.Interface(p.Alpha), "up")
	p.Alpha.WaitState("beta", "up", lab.Patience)
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)
}
