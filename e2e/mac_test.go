package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"tund/e2e/lab"
)

// hardware is the MAC address of a device.
func hardware(t *testing.T, n *lab.Node, device string) string {
	t.Helper()
	var links []struct {
		Address string `json:"address"`
	}
	if err := json.Unmarshal([]byte(n.IP("-json", "link", "show", "dev", device)), &links); err != nil {
		t.Fatal(err)
	}
	return links[0].Address
}

// Neighbours go on with the address that they know, however a tund and its device end.
func TestATapKeepsItsAddress(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{Mode: "tap"})
	alpha, beta := hardware(t, p.Alpha, p.AlphaDevice), hardware(t, p.Beta, p.BetaDevice)
	if !strings.HasPrefix(alpha, "fe:") || !strings.HasPrefix(beta, "fe:") || alpha == beta {
		t.Errorf("alpha has %s, beta %s", alpha, beta)
	}
	wantPing(t, p.Alpha, lab.BetaInner4) // alpha knows beta now
	for how, again := range map[string]func(){
		"down and up": func() { wantCtl(t, p.Beta, 0, "down", "alpha"); wantCtl(t, p.Beta, 0, "up", "alpha") },
		"a kill":      func() { p.Beta.Kill(); p.Beta.Start() },
		"a stop":      func() { p.Beta.Stop(); p.Beta.Start() },
	} {
		again()
		waitState(t, p.Alpha, "up", "")
		if now := hardware(t, p.Beta, p.BetaDevice); now != beta {
			t.Errorf("after %s beta has %s, had %s", how, now, beta)
		}
		wantPing(t, p.Alpha, lab.BetaInner4)
	}
}
