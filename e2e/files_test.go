package e2e

import (
	"os"
	"strings"
	"testing"

	"tund/e2e/lab"
)

// What has been written so far of a file is valid and has one peer less. It is not loaded while
// its writer has it open, and the tunnel stays; a command loads it as it is.
func TestHalfWrittenFileIsNotLoadedByItself(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	before, device := p.Alpha.MustPeer("beta"), p.Alpha.Index("tun-beta")
	text := p.AlphaTable.String()
	head, tail, found := strings.Cut(text, "[peer.beta]")
	if !found {
		t.Fatalf("no peer in\n%s", text)
	}
	f, err := os.OpenFile(p.Alpha.Config(), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	write := func(text string) {
		t.Helper()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write(head)
	within(t, "status says what the change waits for", func() bool {
		return strings.Contains(p.Alpha.Status().Node.Config.Error, "open for writing")
	})
	write("[peer.beta]" + tail + "\nmtu = 1300\n")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "the whole file is in force", func() bool { return p.Alpha.MustPeer("beta").MTU == 1300 })
	if now := p.Alpha.MustPeer("beta"); now.ChildPID != before.ChildPID || p.Alpha.Index("tun-beta") != device {
		t.Errorf("child %d, device %d; were %d and %d", now.ChildPID, p.Alpha.Index("tun-beta"), before.ChildPID, device)
	}

	f, err = os.OpenFile(p.Alpha.Config(), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	write(head)
	wantReload(t, p.Alpha, "beta", "removed")
	if _, ok := p.Alpha.Peer("beta"); ok {
		t.Error("the command has not loaded the file as it is")
	}
}
