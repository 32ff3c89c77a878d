// Package e2e tests tund whole: the real programs on hosts made of network namespaces,
// with real devices, real packets and real faults. Package lab builds the hosts; nothing
// here looks inside the programs.
//
// Tests run in parallel beside each other, on a machine that may be busy: they judge order and
// counts, and a limit of time means "hangs". Every test ends with a check that it left no process,
// no namespace and no device.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"tund/e2e/lab"
)

// programs are the two binaries under test, built or found before the first test.
var programs lab.Binaries

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// runTests provides the programs: those in the directory that TUND_BIN names, or fresh
// ones. TUND_RACE=1 builds them with the race detector, which a lab listens for.
func runTests(m *testing.M) (int, error) {
	if lab.Need() != "" {
		return m.Run(), nil // every test skips and says why
	}
	if err := lab.RemoveLeftovers(); err != nil {
		return 1, err
	}
	if dir := os.Getenv("TUND_BIN"); dir != "" {
		var err error
		if programs, err = lab.InDir(dir); err != nil {
			return 1, err
		}
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "tund-bin-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // one test runs tunctl as nobody
		return 1, err
	}
	var flags []string
	if os.Getenv("TUND_RACE") != "" {
		flags = append(flags, "-race")
	}
	if programs, err = lab.Build(context.Background(), dir, flags...); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// need skips a test where labs are impossible, and says why.
func need(t *testing.T) {
	t.Helper()
	if missing := lab.Need(); missing != "" {
		t.Skip(missing)
	}
}

// newPair returns two nodes with a link and written configurations; nothing runs yet.
func newPair(t *testing.T, o lab.PairOptions) *lab.Pair {
	t.Helper()
	need(t)
	return lab.NewPair(t, programs, o)
}

// upPair returns two nodes with a tunnel that is up.
func upPair(t *testing.T, o lab.PairOptions) *lab.Pair {
	t.Helper()
	p := newPair(t, o)
	p.Up()
	return p
}

// wantNoLoss fails the test if a ping lost a packet.
func wantNoLoss(t *testing.T, what string, r lab.PingResult) {
	t.Helper()
	t.Logf("%s: %v", what, r)
	if r.Lost != 0 || r.Received == 0 {
		t.Errorf("%s: %d of %d packets lost, want 0: %s", what, r.Lost, r.Sent, r.Notes)
	}
}

// wantPing fails the test unless a few pings are answered, all of them. The first one may
// have to be tried for a moment: the kernel takes the queue of a device into use some
// time after it was told that there is a peer behind it.
func wantPing(t *testing.T, from *lab.Node, address string, args ...string) {
	t.Helper()
	for range 10 {
		if from.Answers(address, args...) {
			break
		}
	}
	r := from.Ping(address, 3, args...)
	if r.Lost != 0 || r.Sent == 0 {
		t.Errorf("%s pings %s %v: %d of %d lost: %s", from.Name, address, args, r.Lost, r.Sent, r.Notes)
	}
}

// wantSilence fails the test if a ping is answered.
func wantSilence(t *testing.T, from *lab.Node, address string) {
	t.Helper()
	if r := from.Ping(address, 3, "-w", "3"); r.Received != 0 {
		t.Errorf("%s pings %s: %d answers, want none", from.Name, address, r.Received)
	}
}

// rotate runs a verb of rotation against one peer, which must succeed.
func rotate(t *testing.T, on *lab.Node, verb, peer string) lab.Rotation {
	t.Helper()
	var r lab.Rotation
	code := on.CtlJSON(&r, verb, peer)
	if code != 0 || len(r.Results) != 1 || r.Results[0].Result != "done" {
		t.Fatalf("%s on %s: exit %d: %+v", verb, on.Name, code, r)
	}
	return r
}
