package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tund/internal/ctl"
)

// Each step is a configuration that is loaded over the one before.
type step struct {
	text   string
	result ctl.ReloadOutcome
	peers  string // what became of each
	kernel string // and what there is then
}

func TestReloadBringsTheKernelFromAnyConfigurationToAnyOther(t *testing.T) {
	const (
		one = "[peer.a]\ninterface = \"x\"\nroutes = [\"10.1.0.0/16\"]\n[peer.b]\ninterface = \"y\"\nroutes = [\"10.2.0.0/16\"]\n"
		was = "x a 10.1.0.0/16; y b 10.2.0.0/16"
	)
	for name, s := range map[string]step{
		"nothing has changed": {one, ctl.ReloadUnchanged, "a unchanged, b unchanged", was},
		"two peers swap their routes": {
			"[peer.a]\ninterface = \"x\"\nroutes = [\"10.2.0.0/16\"]\n[peer.b]\ninterface = \"y\"\nroutes = [\"10.1.0.0/16\"]\n",
			ctl.ReloadApplied, "a live, b live", "x a 10.2.0.0/16; y b 10.1.0.0/16",
		},
		"two peers swap their devices": {
			"[peer.a]\ninterface = \"y\"\nroutes = [\"10.1.0.0/16\"]\n[peer.b]\ninterface = \"x\"\nroutes = [\"10.2.0.0/16\"]\n",
			ctl.ReloadApplied, "a child, b child", "x b 10.2.0.0/16; y a 10.1.0.0/16",
		},
		"a route goes from a later peer that is made anew to an earlier one": {
			"[peer.a]\ninterface = \"x\"\nroutes = [\"10.1.0.0/16\", \"10.2.0.0/16\"]\n[peer.b]\ninterface = \"y\"\nqueue = 100\n",
			ctl.ReloadApplied, "a live, b child", "x a 10.1.0.0/16 10.2.0.0/16; y b",
		},
		"a route goes to a new peer that sorts first": {
			"[peer.Z]\nroutes = [\"10.2.0.0/16\"]\n" + strings.ReplaceAll(one, "\"10.2.0.0/16\"", ""),
			ctl.ReloadApplied, "Z added, a unchanged, b live", "tun-Z Z 10.2.0.0/16; x a 10.1.0.0/16; y b",
		},
		"a device and a route go to a peer that takes the place of another": {
			"[peer.c]\ninterface = \"x\"\nroutes = [\"10.1.0.0/16\"]\n[peer.b]\ninterface = \"y\"\nroutes = [\"10.2.0.0/16\"]\n",
			ctl.ReloadApplied, "a removed, b unchanged, c added", "x c 10.1.0.0/16; y b 10.2.0.0/16",
		},
		"a route becomes another peer's address": {
			"[peer.a]\ninterface = \"x\"\naddresses = [\"10.2.0.1/16\"]\n[peer.b]\ninterface = \"y\"\n",
			ctl.ReloadApplied, "a live, b live", "x a 10.2.0.0/16; y b",
		},
		"a disabled peer gives up its route and its device": {
			"[peer.a]\ninterface = \"x\"\nroutes = [\"10.2.0.0/16\"]\n[peer.b]\ninterface = \"y\"\nenabled = false\n",
			ctl.ReloadApplied, "a live, b live", "x a 10.2.0.0/16",
		},
		"a device that somebody else has is refused, and the other peer changes": {
			"[peer.a]\ninterface = \"eth0\"\nroutes = [\"10.1.0.0/16\"]\n[peer.b]\ninterface = \"y\"\nroutes = [\"10.3.0.0/16\"]\n",
			ctl.ReloadPartly, "a refused, b live", "x a 10.1.0.0/16; y b 10.3.0.0/16",
		},
		"a route that somebody else has leaves the rest": {
			"[peer.a]\ninterface = \"x\"\nroutes = [\"10.9.0.0/16\", \"10.4.0.0/16\"]\n[peer.b]\ninterface = \"y\"\nroutes = [\"10.2.0.0/16\"]\n",
			ctl.ReloadPartly, "a live: lacks route 10.9.0.0/16: exists, b unchanged", "x a 10.4.0.0/16; y b 10.2.0.0/16",
		},
		"a device that somebody else has is wanted all the same where there was none": {
			one + "[peer.c]\ninterface = \"eth0\"\n",
			ctl.ReloadPartly, "a unchanged, b unchanged, c refused: lacks tunnel: open eth0: busy", was,
		},
		"a wrong file changes nothing": {"[peer.a]\nmtu = -1\n", ctl.ReloadRefused, "", was},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, newKernel("eth0", "10.9.0.0/16"), one)
			r.want(t, s)
			r.want(t, step{one, back(s.result), "", was})
			r.want(t, step{one, ctl.ReloadUnchanged, "", was})
		})
	}
}

// back is the outcome of the way back from a step; where every change was refused
// there is nothing to do. Steps that were applied in part are.
func back(r ctl.ReloadOutcome) ctl.ReloadOutcome {
	if r == ctl.ReloadApplied {
		return r
	}
	return ""
}

// want changes the configuration and compares; what is empty in s is not.
func (r *rig) want(t *testing.T, s step) {
	t.Helper()
	result, peers := r.change(t, s.text)
	if s.result != "" && result != s.result || s.peers != "" && peers != s.peers {
		t.Errorf("reload: %s: %s, want %s: %s", result, peers, s.result, s.peers)
	}
	if got := r.k.state(); got != s.kernel {
		t.Errorf("afterwards %s, want %s", got, s.kernel)
	}
}

func TestAddressThatBecomesAnotherPeersRouteMoves(t *testing.T) {
	r := newRig(t, newKernel(), "[peer.a]\n[peer.b]\naddresses = [\"10.2.0.1/16\"]\npeer_address = \"10.2.0.2\"\n")
	r.want(t, step{
		"[peer.a]\nroutes = [\"10.2.0.0/16\"]\n[peer.b]\n",
		ctl.ReloadApplied, "a live, b live", "tun-a a 10.2.0.0/16; tun-b b",
	})
}

func TestUnchangedPeersKeepTheirTunnel(t *testing.T) {
	r := newRig(t, newKernel(), "[peer.a]\n[peer.b]\nmtu = 1300\n")
	r.want(t, step{"[peer.a]\n[peer.b]\nmtu = 1400\n[peer.c]\n", ctl.ReloadApplied, "a unchanged, b live, c added", "tun-a a; tun-b b; tun-c c"})
	r.want(t, step{"[peer.a]\n[peer.b]\nqueue = 99\nmtu = 1400\n", ctl.ReloadApplied, "a unchanged, b child, c removed", "tun-a a; tun-b b"})
	if r.k.made["a"] != 1 || r.k.made["b"] != 2 {
		t.Errorf("tunnels made: %v, want 1 for a, 2 for b", r.k.made)
	}
}

// A peer that could not change at first must not stay with what was refused when the
// file is put back.
func TestPeerThatWasRefusedFollowsTheFileAgain(t *testing.T) {
	const before = "[peer.a]\ninterface = \"x\"\n"
	r := newRig(t, newKernel("eth0"), before)
	r.want(t, step{"[peer.a]\ninterface = \"eth0\"\n", ctl.ReloadPartly, "a refused", "x a"})
	if r.loadErr == "" {
		t.Error("status shows no error of the configuration")
	}
	delete(r.k.foreign, "eth0")
	r.want(t, step{before, ctl.ReloadUnchanged, "a unchanged", "x a"})
	if r.loadErr != "" {
		t.Errorf("status shows %q of a configuration that is in force", r.loadErr)
	}
	r.want(t, step{"[peer.a]\ninterface = \"eth0\"\n", ctl.ReloadApplied, "a child", "eth0 a"})
}

// A new peer whose tunnel can't be had yet says so itself, and comes by itself: its configuration is in force.
func TestNewPeerThatWaitsForItsDeviceIsNoErrorOfTheConfiguration(t *testing.T) {
	r := newRig(t, newKernel("eth0"), "[peer.a]\n")
	r.want(t, step{"[peer.a]\n[peer.c]\ninterface = \"eth0\"\n", ctl.ReloadPartly, "a unchanged, c refused: lacks tunnel: open eth0: busy", "tun-a a"})
	if r.loadErr != "" {
		t.Errorf("status shows %q of a configuration that is in force", r.loadErr)
	}
}

// The same content is tried again when somebody asks, not when the file is touched.
func TestRefusedChangeIsTriedAgainOnlyWhenAsked(t *testing.T) {
	r := newRig(t, newKernel("eth0"), "[peer.a]\ninterface = \"x\"\n")
	r.want(t, step{"[peer.a]\ninterface = \"eth0\"\n", ctl.ReloadPartly, "a refused", "x a"})
	if result := r.reload(t.Context(), byFile()); result.Result != ctl.ReloadUnchanged {
		t.Errorf("a touched file: %s", result.Result)
	}
	if r.k.made["a"] != 2 || r.loadErr == "" {
		t.Errorf("tunnels made: %v; status shows %q", r.k.made, r.loadErr)
	}
	if result := r.reload(t.Context(), bySignal()); result.Result != ctl.ReloadPartly {
		t.Errorf("asked: %s", result.Result)
	}
}

// occupy listens at a free port of 127.0.0.1.
func occupy(t *testing.T) (busy net.Listener, port int) {
	t.Helper()
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = busy.Close() })
	return busy, busy.Addr().(*net.TCPAddr).Port
}

// takesTCP tells whether something listens there.
func takesTCP(t *testing.T, addr string, port int) bool {
	t.Helper()
	conn, err := net.Dial("tcp4", net.JoinHostPort(addr, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func TestAListenAddressThatCannotBeHadIsTriedAgainAndTheOthersWork(t *testing.T) {
	busy, port := occupy(t)
	both := fmt.Sprintf("listen = [\"127.0.0.1:%d\", \"127.0.0.2:%d\"]\n[peer.a]\n", port, port)
	r := newRig(t, newKernel(), both)
	lacks := fmt.Sprintf("listen 127.0.0.1:%d: ", port)
	status := r.nodeStatus()
	if len(status.Missing) != 1 || !strings.HasPrefix(status.Missing[0], lacks) || !strings.Contains(status.Missing[0], "in use") || len(status.Listen) != 1 {
		t.Errorf("listening at %q, missing %q", status.Listen, status.Missing)
	}
	if !takesTCP(t, "127.0.0.2", port) {
		t.Error("the other address does not answer")
	}
	if line := summary(nil, r.gates.lacks(), false, false); !strings.Contains(line, "degraded: "+lacks) {
		t.Errorf("status line %q", line)
	}
	here, there := netip.MustParseAddr("127.0.0.9"), netip.MustParseAddrPort(fmt.Sprintf("127.0.0.2:%d", port))
	if got := r.node.Local(here); got != there {
		t.Errorf("data leaves from %s, where nobody listens", got)
	}
	_ = busy.Close()
	r.gates.retry(t.Context())
	if status := r.nodeStatus(); len(status.Missing) != 0 || len(status.Listen) != 2 || !takesTCP(t, "127.0.0.1", port) {
		t.Errorf("listening at %q, missing %q", status.Listen, status.Missing)
	}
}

func TestAReloadIsAppliedThoughAListenAddressCannotBeHad(t *testing.T) {
	busy, port := occupy(t)
	r := newRig(t, newKernel(), fmt.Sprintf("listen = [\"127.0.0.2:%d\"]\n[peer.a]\n", port))
	text := fmt.Sprintf("listen = [\"127.0.0.1:%d\", \"127.0.0.3:%d\"]\n[peer.a]\nroutes = [\"10.1.0.0/16\"]\n", port, port)
	for _, peers := range []string{"a live", "a unchanged"} { // and says so, as long as it is
		r.want(t, step{text, ctl.ReloadPartly, peers, "tun-a a 10.1.0.0/16"})
	}
	if takesTCP(t, "127.0.0.2", port) || !takesTCP(t, "127.0.0.3", port) {
		t.Error("the listener is not where it is wanted")
	}
	_ = busy.Close()
	r.gates.retry(t.Context())
	r.want(t, step{text, ctl.ReloadUnchanged, "a unchanged", "tun-a a 10.1.0.0/16"})
}

func TestATundWithoutAListenerServesThePeersItDials(t *testing.T) {
	_, port := occupy(t)
	r := newRig(t, newKernel(), fmt.Sprintf("listen = [\"127.0.0.1:%d\"]\n[peer.a]\n", port))
	if got, want := r.node.Local(netip.MustParseAddr("127.0.0.9")), netip.MustParseAddrPort("0.0.0.0:0"); got != want {
		t.Errorf("data leaves from %s, want %s", got, want)
	}
}

func TestListenAddressesThatExcludeEachOtherChangePlaces(t *testing.T) {
	busy, port := occupy(t)
	_ = busy.Close()
	r := newRig(t, newKernel(), fmt.Sprintf("listen = [\"0.0.0.0:%d\"]\n[peer.a]\n", port))
	for _, addr := range []string{"127.0.0.1", "0.0.0.0"} {
		r.want(t, step{fmt.Sprintf("listen = [\"%s:%d\"]\n[peer.a]\n", addr, port), ctl.ReloadApplied, "a unchanged", "tun-a a"})
		if open := addrsOf(r.gates.open); len(open) != 1 || open[0].Addr().String() != addr {
			t.Errorf("open %v, want %s", open, addr)
		}
	}
}

func TestNewPrivateKeyIsInForceAtOnce(t *testing.T) {
	r := newRig(t, newKernel(), "[peer.a]\n")
	before := r.node.Identity().Public()
	other := newRig(t, newKernel(), "[peer.a]\n")
	key, err := os.ReadFile(filepath.Join(other.dir, "private.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "private.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	result, _ := r.change(t, "[peer.a]\n")
	if now := r.node.Identity().Public(); result != ctl.ReloadApplied || now == before {
		t.Errorf("reload %s, public key %s, before %s", result, now, before)
	}
}
