package e2e

import (
	"fmt"
	"testing"

	"tund/e2e/lab"
)

// What an administrator does to add a host, on a pair (see tunnel_test.go) of which beta
// knows nothing yet but its own key. On beta that is: install the program and make a key
// (the package does both), tell alpha the public key, join, start.

// unacquainted returns a pair of which alpha runs, has these lines about beta, and a
// pre-shared key that they may name.
func unacquainted(t *testing.T, lines ...string) *lab.Pair {
	t.Helper()
	p := newPair(t, lab.PairOptions{})
	key := wantCtl(t, p.Beta, 0, "pubkey", "--config", p.Beta.Config()).Stdout
	p.AlphaTable.Peers["beta"] = append([]string{fmt.Sprintf("public_key = %q", key[:len(key)-1])}, lines...)
	p.Alpha.WriteFile("beta.psk", p.Alpha.NewPresharedKey())
	p.Alpha.Configure(p.AlphaTable)
	p.Beta.Configure(lab.NewTable())
	p.Alpha.Start()
	return p
}

// invited returns what alpha's administrator sends to beta's.
func invited(t *testing.T, p *lab.Pair, args ...string) string {
	t.Helper()
	r := p.Alpha.CtlInside(append([]string{"invite", "beta", "--config", p.Alpha.Config(), "--name", "alpha"}, args...)...)
	if r.Code != 0 {
		t.Fatalf("tunctl invite: exit %d: %s", r.Code, r.Stderr)
	}
	return r.Stdout
}

func TestInvitedHostJoinsAndStarts(t *testing.T) {
	t.Parallel()
	p := unacquainted(t, fmt.Sprintf(`addresses = ["%s/30", "%s/64"]`, lab.AlphaInner4, lab.AlphaInner6),
		fmt.Sprintf("peer_address = %q", lab.BetaInner6), "mtu = 1380")
	text := invited(t, p)
	if r := p.Beta.CtlInput(text, "join", "-", "--yes", "--config", p.Beta.Config()); r.Code != 0 {
		t.Fatalf("tunctl join: exit %d: %s", r.Code, r.Stderr)
	}
	p.Beta.Start()
	p.WaitUp()
	wantPing(t, p.Beta, lab.AlphaInner4)
	wantPing(t, p.Alpha, lab.BetaInner6)
	if mtu := p.Beta.MustPeer("alpha").MTU; mtu != 1380 {
		t.Errorf("the MTU is %d, not that of the other side", mtu)
	}
}

// With a pre-shared key, and while beta's tund runs already.
func TestInvitedHostJoinsWhileItRuns(t *testing.T) {
	t.Parallel()
	p := unacquainted(t, `mode = "tap"`, fmt.Sprintf(`addresses = ["%s/24"]`, lab.AlphaInner4),
		fmt.Sprintf("peer_address = %q", lab.BetaInner4), `preshared_key_file = "beta.psk"`)
	p.Beta.Start()
	p.Beta.WriteFile("invite.toml", invited(t, p))
	join := []string{"join", p.Beta.Path("invite.toml"), "--yes", "--config", p.Beta.Config()}
	wantCtl(t, p.Beta, 1, join...) // the key is missing
	wantCtl(t, p.Beta, 0, append(join, "--psk", p.Alpha.Path("beta.psk"))...)
	p.WaitUp()
	wantPing(t, p.Beta, lab.AlphaInner4)
	wantPing(t, p.Alpha, lab.BetaInner4)
}

// An invitation that went to the wrong host changes nothing there.
func TestInvitationIsForOneHostOnly(t *testing.T) {
	t.Parallel()
	p := unacquainted(t, fmt.Sprintf(`addresses = ["%s/30"]`, lab.AlphaInner4))
	text := invited(t, p)
	p.Beta.NewIdentity()
	if r := p.Beta.CtlInput(text, "join", "-", "--yes", "--config", p.Beta.Config()); r.Code != 1 {
		t.Errorf("tunctl join: exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	wantCtl(t, p.Beta, 0, "check", p.Beta.Config())
}
