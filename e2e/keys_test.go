package e2e

import (
	"fmt"
	"testing"
	"time"

	"tund/e2e/lab"
)

// Keys of the configuration of a pair (see tunnel_test.go) that no other test here looks
// at: what they say must be seen on the host.

func TestKeysOfADeviceAreSeenOnIt(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.AlphaTable.Set("beta", "interface", `"uplink"`)
	p.AlphaTable.Set("beta", "addresses", fmt.Sprintf(`["%s/32", "%s/64"]`, lab.AlphaInner4, lab.AlphaInner6))
	p.AlphaTable.Set("beta", "peer_address", fmt.Sprintf("%q", lab.BetaInner4))
	p.AlphaTable.Set("beta", "queue", "77")
	p.Alpha.Configure(p.AlphaTable)
	p.Up()
	wantWords(t, "the device", p.Alpha.IP("link", "show", "uplink"), "qlen 77")
	wantWords(t, "its address", p.Alpha.IP("addr", "show", "uplink"), lab.AlphaInner4+" peer "+lab.BetaInner4+"/32")
	wantPing(t, p.Alpha, lab.BetaInner4)
	wantPing(t, p.Beta, lab.AlphaInner4)
}

// In silence a sign of life is sent as often as keepalive says, which changes live.
func TestKeepaliveBreaksSilence(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{Extra: []string{`keepalive = "10m"`}})
	signs := func(c *lab.Capture) (count int) {
		for _, segment := range c.Seen() {
			if segment.IsData() && segment.Payload[0]>>4 == 2 { // PROBE
				count++
			}
		}
		return count
	}
	time.Sleep(time.Second) // for what follows the beginning
	capture := p.Alpha.Capture(p.Link.Interface(p.Alpha))
	time.Sleep(5 * time.Second)
	if count := signs(capture); count > 0 {
		t.Errorf("%d probes in silence, with a keepalive of 10 minutes", count)
	}
	p.AlphaTable.Set("beta", "keepalive", `"1s"`)
	p.Alpha.Configure(p.AlphaTable)
	wantReload(t, p.Alpha, "beta", "live")
	within(t, "a probe comes in silence, and another, with a keepalive of 1 s", func() bool { return signs(capture) >= 8 })
}

// A peer that is disabled live holds nothing; enabled again it is back, and all the while
// the file alone says so.
func TestPeerIsDisabledAndEnabledLive(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{BothDial: true})
	child := p.Alpha.MustPeer("beta").ChildPID
	p.AlphaTable.Set("beta", "enabled", "false")
	p.Alpha.Configure(p.AlphaTable)
	p.Alpha.WaitState("beta", "disabled", lab.Patience)
	within(t, "child and device are gone", func() bool { return !lab.Alive(child) && p.Alpha.Index(p.AlphaDevice) == 0 })
	p.Beta.WaitPeer("alpha", lab.Patience, "beta is told", func(s lab.PeerStatus) bool { return s.State != "up" && s.Transport == "" })
	wantCtl(t, p.Alpha, 1, "up", "beta")
	p.AlphaTable.Set("beta", "enabled", "true")
	p.Alpha.Configure(p.AlphaTable)
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)
}
