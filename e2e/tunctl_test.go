package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// What tunctl promises, on a pair (see tunnel_test.go).

func TestDownUpAndShutdown(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{BothDial: true})

	// down: ours is closed and the other side knows; up brings both back.
	wantDown(t, p, "down", "beta")
	wantCtl(t, p.Alpha, 0, "up", "beta")
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)

	// shutdown: the other side has closed its end and freed what it held.
	child := p.Beta.MustPeer("alpha").ChildPID
	wantDown(t, p, "shutdown", "beta")
	lab.Until(t, lab.Patience, "beta has freed child and device", func() bool {
		return !lab.Alive(child) && p.Beta.Index(p.BetaDevice) == 0
	})
	ours := make(chan lab.Result, 1) // one result, read below
	go func() { ours <- p.Alpha.Ctl("up", "beta") }()
	wantCtl(t, p.Beta, 0, "up", "alpha")
	if r := <-ours; r.Code != 0 {
		t.Errorf("tunctl up on alpha: exit %d: %s", r.Code, r.Stderr)
	}
	p.WaitUp()
	wantPing(t, p.Beta, lab.AlphaInner4)
}

func TestDownBothStaysDownUntilTheOtherAdministratorSaysUp(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{BothDial: true})
	wantDown(t, p, "down", "beta", "--both")
	p.Beta.WaitState("alpha", "down", lab.Patience)

	// Ours alone does not bring it back, and a restart does not forget it.
	if r := p.Alpha.Ctl("--timeout", "3s", "up", "beta"); r.Code == 0 {
		t.Errorf("up against a peer that was told to stay down: exit 0: %s", r.Stdout)
	}
	if code, _ := p.Beta.Stop(); code != 0 {
		t.Errorf("beta ended with %d", code)
	}
	p.Beta.Start()
	time.Sleep(2 * time.Second)
	if state := p.Beta.MustPeer("alpha").State; state != "down" {
		t.Errorf("after a restart beta shows alpha as %q, want down", state)
	}
	wantCtl(t, p.Beta, 0, "up", "alpha")
	p.Alpha.WaitState("beta", "up", lab.Patience)
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)
}

func TestAnOrderToStayDownMayBeRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.BetaTable.Set("alpha", "accept_stay_down", "false")
	p.Beta.Configure(p.BetaTable)
	p.Up()
	p.Alpha.Ctl("down", "beta", "--both")
	wantCtl(t, p.Alpha, 0, "up", "beta")
	p.WaitUp()
}

// wantDown runs a verb on alpha that closes the tunnel, and looks at both ends.
func wantDown(t *testing.T, p *lab.Pair, verb string, args ...string) {
	t.Helper()
	wantCtl(t, p.Alpha, 0, append([]string{verb}, args...)...)
	p.Alpha.WaitState("beta", "down", lab.Patience)
	p.Beta.WaitPeer("alpha", lab.Patience, "no longer up", func(s lab.PeerStatus) bool { return s.State != "up" })
	if left := slices.Index(p.Alpha.Interfaces(), p.AlphaDevice); left >= 0 {
		t.Errorf("%s: the device is still there", verb)
	}
	wantSilence(t, p.Beta, lab.AlphaInner4)
	time.Sleep(2 * time.Second) // time enough to come back, if something let it
	if state := p.Alpha.MustPeer("beta").State; state != "down" {
		t.Errorf("%s: alpha shows beta as %q after a while", verb, state)
	}
}

// wantCtl runs tunctl, which must end with this exit code.
func wantCtl(t *testing.T, n *lab.Node, code int, args ...string) lab.Result {
	t.Helper()
	r := n.Ctl(args...)
	if r.Code != code {
		t.Errorf("tunctl %s: exit %d, want %d: %s%s", strings.Join(args, " "), r.Code, code, r.Stdout, r.Stderr)
	}
	return r
}

func TestStatusHasThePromisedShape(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	wantPing(t, p.Alpha, lab.BetaInner4)
	var status struct {
		Schema int              `json:"schema"`
		Node   map[string]any   `json:"node"`
		Peers  []map[string]any `json:"peers"`
	}
	if code := p.Alpha.CtlJSON(&status, "status"); code != 0 || status.Schema != 1 || len(status.Peers) != 1 {
		t.Fatalf("status: exit %d, schema %d, %d peers", code, status.Schema, len(status.Peers))
	}
	wantKeys(t, "node", status.Node, "name", "public_key", "version", "pid", "uptime_s", "config")
	wantKeys(t, "node.config", status.Node["config"], "path", "loaded_at", "error")
	wantKeys(t, "peer", status.Peers[0], "name", "state", "interface", "mode", "child_pid", "endpoint", "transport",
		"epoch", "iv_generation", "epoch_age_s", "rx_bytes", "tx_bytes", "rx_packets", "tx_packets", "drops", "rtt_ms",
		"loss", "mtu", "aead", "engine", "offload", "sandbox", "since", "state_age_s", "restarts", "last_error", "exchanges_failed")
	wantKeys(t, "peer.drops", status.Peers[0]["drops"], "auth", "replay", "malformed", "queue", "source")
	if _, ok := status.Peers[0]["offload"].([]any); !ok {
		t.Errorf("offload is %v, want a list", status.Peers[0]["offload"])
	}

	typed := p.Alpha.Status()
	peer := typed.Peers[0]
	if typed.Node.PID != p.Alpha.PID() || typed.Node.PublicKey != p.Alpha.PublicKey() || typed.Node.Config.Path != p.Alpha.Config() {
		t.Errorf("node: %+v", typed.Node)
	}
	if peer.RxPackets == 0 || peer.TxPackets == 0 || peer.Epoch == 0 || peer.ChildPID == 0 || peer.Since.IsZero() || peer.Engine == "" {
		t.Errorf("peer: %+v", peer)
	}
	if want := fmt.Sprintf("%s:%d", p.Link.Addr(p.Beta, 4), lab.Port); peer.Endpoint != want {
		t.Errorf("endpoint %q, want %q", peer.Endpoint, want)
	}
}

// wantKeys fails the test unless an object has these keys.
func wantKeys(t *testing.T, what string, object any, keys ...string) {
	t.Helper()
	fields, ok := object.(map[string]any)
	if !ok {
		t.Errorf("%s is %T, want an object", what, object)
		return
	}
	for _, key := range keys {
		if _, ok := fields[key]; !ok {
			t.Errorf("%s has no %q", what, key)
		}
	}
}

func TestStatusForPeople(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	bare := wantCtl(t, p.Alpha, 0)
	wantWords(t, "tunctl", bare.Stdout, "beta", "up")
	one := wantCtl(t, p.Alpha, 0, "status", "beta")
	wantWords(t, "tunctl status beta", one.Stdout, "up", p.AlphaDevice)
	if strings.Contains(bare.Stdout+one.Stdout, "\x1b[") {
		t.Error("colours on something that is no terminal")
	}
	var status lab.Status
	if code := p.Alpha.CtlJSON(&status, "status", "beta"); code != 0 || len(status.Peers) != 1 {
		t.Errorf("status of one peer: exit %d, %d peers", code, len(status.Peers))
	}
}

func TestExitCodesOfTunctl(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	wantCtl(t, p.Alpha, 3, "status") // nobody there
	wantCtl(t, p.Alpha, 2, "no-such-verb")
	wantCtl(t, p.Alpha, 2, "status", "--no-such-flag")
	wantCtl(t, p.Alpha, 2, "rotate-key") // without peer and --all
	p.Up()
	wantCtl(t, p.Alpha, 0, "status")
	wantCtl(t, p.Alpha, 1, "status", "nobody")
	wantCtl(t, p.Alpha, 1, "rotate-key", "nobody")
	wantCtl(t, p.Alpha, 0, "rotate-key", "--all")
	wantCtl(t, p.Alpha, 0, "rotate-iv", "--all")
	wantCtl(t, p.Alpha, 0, "reload")
	wantCtl(t, p.Alpha, 0, "check", p.Alpha.Config())
	wantCtl(t, p.Alpha, 0, "version")
	p.AlphaTable.Set("beta", "mtu", `"large"`)
	p.Alpha.Configure(p.AlphaTable)
	wantCtl(t, p.Alpha, 1, "check", p.Alpha.Config())
	wantCtl(t, p.Alpha, 1, "reload")
	wantNotPermitted(t, p.Alpha)

	// Nothing that is asked for by mistake disturbs the tunnel.
	wantPing(t, p.Alpha, lab.BetaInner4)
}

// wantNotPermitted runs tunctl as nobody, who may not even read.
func wantNotPermitted(t *testing.T, n *lab.Node) {
	t.Helper()
	if r := n.CtlAs(65534, "status"); r.Code != 4 {
		t.Errorf("tunctl status as nobody: exit %d, want 4: %s", r.Code, r.Stderr)
	}
}

// Every verb that answers in JSON also does so when it cannot do what it is asked.
func TestErrorsAreJSONToo(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	r := p.Alpha.Ctl("up", "nobody", "--json")
	if r.Code == 0 || !json.Valid([]byte(r.Stdout+r.Stderr)) {
		t.Errorf("exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// The same over HTTP on the socket, as any program may speak it.
func TestControlSocketSpeaksHTTP(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", p.Alpha.Socket())
		},
	}}
	for _, c := range []struct {
		method, path string
		code         int
		key          string
	}{
		{"GET", "/v1/status", 200, "peers"},
		{"POST", "/v1/peers/beta/rotate-key", 200, "results"},
		{"POST", "/v1/peers/beta/rotate-iv", 200, "results"},
		{"POST", "/v1/reload", 200, "result"},
		{"POST", "/v1/peers/nobody/rotate-key", 404, "error"},
		{"GET", "/v1/no-such-thing", 404, "error"},
		{"GET", "/v1/reload", 405, "error"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, "http://tund"+c.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, c.path, err)
		}
		var object map[string]any
		err = errors.Join(json.NewDecoder(response.Body).Decode(&object), response.Body.Close())
		if _, ok := object[c.key]; !ok || response.StatusCode != c.code || err != nil {
			t.Errorf("%s %s: %d, %v, %v; want %d and %q", c.method, c.path, response.StatusCode, object, err, c.code, c.key)
		}
	}
}

// A reload of which a part cannot be done says so, by its exit code too.
func TestReloadThatIsPartlyRefused(t *testing.T) {
	t.Parallel()
	p := upPair(t, lab.PairOptions{})
	pid := p.Alpha.MustPeer("beta").ChildPID
	p.Alpha.AddLink("taken", "type", "bridge")
	p.AlphaTable.Node = []string{`reload = "manual"`}
	p.Alpha.Configure(p.AlphaTable)
	wantCtl(t, p.Alpha, 0, "reload")
	p.AlphaTable.Set("beta", "keepalive", `"9s"`)
	p.AlphaTable.Peers["other"] = []string{fmt.Sprintf("public_key = %q", p.Lab.Node("other").PublicKey()), `interface = "taken"`}
	p.Alpha.Configure(p.AlphaTable)
	var r lab.Reload
	if code := p.Alpha.CtlJSON(&r, "reload"); code != 5 || r.Result != "partly" || r.Action("other") != "refused" || r.Action("beta") != "live" {
		t.Errorf("reload: exit %d, %+v", code, r)
	}
	if now := p.Alpha.MustPeer("beta"); now.ChildPID != pid || now.State != "up" {
		t.Errorf("child was %d, is %d, state %q", pid, now.ChildPID, now.State)
	}
}

func TestRouteIsPutBackWhenSomethingRemovesIt(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.AlphaTable.Set("beta", "routes", `["10.20.0.0/16", "fd20::/32"]`)
	p.Alpha.Configure(p.AlphaTable)
	p.Up()
	routes := func() string { return p.Alpha.IP("route", "show") + p.Alpha.IP("-6", "route", "show") }
	within(t, "the routes are there", func() bool {
		return strings.Contains(routes(), "10.20.0.0/16") && strings.Contains(routes(), "fd20::/32")
	})
	p.Alpha.IP("route", "del", "10.20.0.0/16")
	p.Alpha.IP("-6", "route", "del", "fd20::/32")
	within(t, "the routes are back", func() bool {
		return strings.Contains(routes(), "10.20.0.0/16") && strings.Contains(routes(), "fd20::/32")
	})
	p.Alpha.IP("addr", "del", lab.AlphaInner4+"/30", "dev", p.AlphaDevice)
	within(t, "the address is back", func() bool {
		return strings.Contains(p.Alpha.IP("addr", "show", "dev", p.AlphaDevice), lab.AlphaInner4)
	})
	wantPing(t, p.Alpha, lab.BetaInner4)
}

func TestForeignSourcesAreDroppedAndCounted(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.BetaTable.Set("alpha", "allowed_ips", fmt.Sprintf("[\"%s/32\", \"%s/128\"]", lab.AlphaInner4, lab.AlphaInner6))
	p.Beta.Configure(p.BetaTable)
	p.Up()
	p.Alpha.IP("addr", "add", "10.99.0.1/32", "dev", p.AlphaDevice)
	p.Beta.IP("route", "add", "10.99.0.1/32", "dev", p.BetaDevice)
	wantPing(t, p.Alpha, lab.BetaInner4)
	wantPing(t, p.Alpha, lab.BetaInner6)
	before := p.Beta.MustPeer("alpha").Drops["source"]
	if r := p.Alpha.Ping(lab.BetaInner4, 5, "-w", "6", "-I", "10.99.0.1"); r.Received != 0 {
		t.Errorf("%d answers to a foreign source", r.Received)
	}
	p.Beta.WaitPeer("alpha", lab.Patience, "five drops by source", func(s lab.PeerStatus) bool {
		return s.Drops["source"] >= before+5
	})
	// The list is live, and so are routes, from which the default follows.
	p.BetaTable.Set("alpha", "allowed_ips", `["any"]`)
	p.Beta.Configure(p.BetaTable)
	wantReload(t, p.Beta, "alpha", "live")
	wantPing(t, p.Alpha, lab.BetaInner4, "-I", "10.99.0.1")
	p.BetaTable.Unset("alpha", "allowed_ips")
	p.Beta.Configure(p.BetaTable)
	wantReload(t, p.Beta, "alpha", "live")
	p.Alpha.Ping(lab.BetaInner4, 3, "-w", "2", "-I", "10.99.0.1")
	p.Beta.WaitPeer("alpha", lab.Patience, "a warning", func(s lab.PeerStatus) bool { return len(s.Warnings) == 1 })
	p.Beta.IP("route", "del", "10.99.0.1/32", "dev", p.BetaDevice)
	p.BetaTable.Set("alpha", "routes", `["10.99.0.1/32"]`)
	p.Beta.Configure(p.BetaTable)
	wantReload(t, p.Beta, "alpha", "live")
	wantPing(t, p.Alpha, lab.BetaInner4, "-I", "10.99.0.1")
}
