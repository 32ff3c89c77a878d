package e2e

import (
	"strings"
	"testing"

	"tund/e2e/lab"
)

// Whatever sockets of tund an administrator destroys, it goes on.
func TestDestroyedSocketsAreMadeAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		node  string   // further line of alpha's [node]
		which []string // for ss(8)
	}{
		{"data", "", []string{"-u", "state", "connected"}},
		{"data at a port of the kernel's choice", "listen = []", []string{"-u", "state", "connected"}},
		{"control session", "", []string{"-t", "state", "connected"}},
		{"listener", "", []string{"-t", "-l"}},
		{"all", "", []string{"-t", "-u", "-a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, lab.PairOptions{})
			if test.node != "" {
				p.AlphaTable.Node = append(p.AlphaTable.Node, test.node)
				p.Alpha.Configure(p.AlphaTable)
			}
			p.Up()
			for _, node := range []*lab.Node{p.Alpha, p.Beta} {
				destroy(t, node, test.which)
				lab.Until(t, lab.Patience, "packets flow again", func() bool { return p.Alpha.Answers(lab.BetaInner4) })
				p.WaitUp()
			}
			p.Alpha.Stop()
			p.Alpha.Start() // and dials beta
			p.WaitUp()
			wantPing(t, p.Alpha, lab.BetaInner4)
		})
	}
}

func destroy(t *testing.T, n *lab.Node, which []string) {
	t.Helper()
	gone, err := n.Output("ss", append([]string{"--kill", "-n", "-H"}, which...)...)
	if err != nil || strings.TrimSpace(gone) == "" {
		t.Fatalf("%s has no such socket, or this kernel no CONFIG_INET_DIAG_DESTROY: %v", n.Name, err)
	}
}
