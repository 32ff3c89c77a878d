package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tund/e2e/lab"
)

// fastest is the engine that a tund with cgo has to find here: Intel's library, where it
// is installed and the CPU has what its slowest part needs.
func fastest(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/usr/lib/x86_64-linux-gnu/libIPSec_MB.so.[12]")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(info))
	for _, flag := range []string{"aes", "pclmulqdq", "sse4_2", "avx2", "bmi2"} {
		if !slices.Contains(words, flag) {
			return "go"
		}
	}
	if runtime.GOARCH != "amd64" || len(files) == 0 {
		return "go"
	}
	return "ipsec-mb"
}

// The configuration forces an engine, status names the one in use, and what one engine
// seals the other opens.
func TestTheConfigurationForcesTheEngine(t *testing.T) {
	best := fastest(t)
	for choice, want := range map[string]string{"auto": best, "go": "go", "ipsec-mb": best} {
		t.Run(choice, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, lab.PairOptions{})
			wantEngines(t, p, choice, want)
		})
	}
}

// A tund that was built without cgo does all of it on the standard library.
func TestWithoutCgoTheStandardLibraryServes(t *testing.T) {
	need(t)
	if os.Getenv("TUND_RACE") != "" || os.Getenv("TUND_BIN") != "" {
		t.Skip("the programs were built otherwise on purpose")
	}
	t.Parallel()
	programs, err := lab.BuildWithoutCgo(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, choice := range []string{"auto", "ipsec-mb"} {
		t.Run(choice, func(t *testing.T) {
			p := lab.NewPair(t, programs, lab.PairOptions{})
			wantEngines(t, p, choice, "go")
			wantTransfer(t, p)
			if got := p.Alpha.MustPeer("beta"); !slices.Equal(got.Sandbox, walls) {
				t.Errorf("sandbox %v, want %v", got.Sandbox, walls)
			}
		})
	}
}

// wantEngines brings a pair up, alpha with the choice and beta with the standard library,
// and fails the test unless alpha has the wanted one, says so, and both understand
// each other.
func wantEngines(t *testing.T, p *lab.Pair, choice, want string) {
	t.Helper()
	const aes = `aead = ["aes-256-gcm"]`
	p.AlphaTable.Node = []string{aes, "engine = " + strconv.Quote(choice)}
	p.BetaTable.Node = []string{aes, `engine = "go"`}
	p.Alpha.Configure(p.AlphaTable)
	p.Beta.Configure(p.BetaTable)
	p.Up()
	if a, b := p.Alpha.MustPeer("beta").Engine, p.Beta.MustPeer("alpha").Engine; a != want || b != "go" {
		t.Errorf("alpha, told %q, uses the engine %q, beta %q; want %q and go", choice, a, b, want)
	}
	if text, name := p.Alpha.Ctl("status", "beta").Stdout, fmt.Sprintf("aes-256-gcm (engine %s)", want); !strings.Contains(text, name) {
		t.Errorf("status does not say %q:\n%s", name, text)
	}
	if said := strings.Contains(p.Alpha.Log(), "engine not used"); said != (choice == "ipsec-mb" && want != choice) {
		t.Errorf("the log says that the engine is not used: %t\n%s", said, p.Alpha.Log())
	}
	wantStream(t, p.Alpha, p.Beta, lab.BetaInner4)
	wantStream(t, p.Beta, p.Alpha, lab.AlphaInner6)
	wantPing(t, p.Alpha, lab.BetaInner4)
}
