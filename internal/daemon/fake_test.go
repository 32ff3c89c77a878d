package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/parts"
	"tund/internal/peer"
	"tund/internal/pipe"
	"tund/internal/supervisor"
)

// kernel stands in for what the kernel has once only: names of devices, and routes,
// which addresses bring too. It is safe for concurrent use.
type kernel struct {
	foreign map[string]bool // names and networks that others have

	mu      sync.Mutex
	devices map[string]string       // name to peer
	routes  map[netip.Prefix]string // to the name of a device
	made    map[string]int          // how many tunnels each peer has had
	resumed map[string]int          // how many children were begun after a hand-over

	stalled atomic.Bool     // nobody looks after children
	stuck   <-chan struct{} // open waits until it is closed; nil: it does not
	waiting atomic.Bool     // an open does
}

func newKernel(foreign ...string) *kernel {
	k := &kernel{
		foreign: map[string]bool{}, devices: map[string]string{},
		routes: map[netip.Prefix]string{}, made: map[string]int{}, resumed: map[string]int{},
	}
	for _, name := range foreign {
		k.foreign[name] = true
	}
	return k
}

// open is a peer.Opener.
func (k *kernel) open(o peer.Opening) (peer.Tunnel, error) {
	cfg, s, events := o.Config, o.Settings, o.Events
	k.mu.Lock()
	stuck := k.stuck
	k.mu.Unlock()
	if stuck != nil {
		k.waiting.Store(true)
		<-stuck
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.foreign[s.Interface] || k.devices[s.Interface] != "" {
		return nil, fmt.Errorf("open %s: busy", s.Interface)
	}
	k.devices[s.Interface] = cfg.Name
	k.made[cfg.Name]++
	t := &fakeTunnel{k: k, name: s.Interface, events: events}
	t.setLocked(s)
	return t, nil
}

// hangOpening makes whoever opens a tunnel wait until stuck is closed.
func (k *kernel) hangOpening(stuck <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stuck = stuck
}

// state lists devices with their peer and routes.
func (k *kernel) state() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var lines []string
	for _, device := range slices.Sorted(maps.Keys(k.devices)) {
		line := device + " " + k.devices[device]
		var routes []string
		for route, owner := range k.routes {
			if owner == device {
				routes = append(routes, route.String())
			}
		}
		slices.Sort(routes)
		lines = append(lines, strings.Join(append([]string{line}, routes...), " "))
	}
	return strings.Join(lines, "; ")
}

// fakeTunnel has no child.
type fakeTunnel struct {
	k      *kernel
	name   string
	events chan<- supervisor.Event

	missing parts.List
}

var errNone = errors.New("the fake tunnel has none")

func (t *fakeTunnel) Offloads() pipe.Offloads { return 0 }

// setLocked adds before it removes, as package netcfg does, and tries again what was missing.
func (t *fakeTunnel) setLocked(s netcfg.Settings) {
	t.missing = nil
	for _, r := range s.Routes {
		if owner, taken := t.k.routes[r]; t.k.foreign[r.String()] || taken && owner != t.name {
			t.missing.Add("route "+r.String(), errors.New("exists"))
		}
	}
	maps.DeleteFunc(t.k.routes, func(_ netip.Prefix, owner string) bool { return owner == t.name })
	for _, r := range s.Routes {
		if !t.missing.Has("route " + r.String()) {
			t.k.routes[r] = t.name
		}
	}
	for _, a := range s.Addresses { // these the kernel takes though there is one already
		t.k.routes[a.Masked()] = t.name
	}
}

func (t *fakeTunnel) Set(s netcfg.Settings) parts.List {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	t.setLocked(s)
	return t.missing
}

func (t *fakeTunnel) Missing() parts.List {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	return t.missing
}

func (t *fakeTunnel) Close() {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	t.setLocked(netcfg.Settings{})
	delete(t.k.devices, t.name)
}

func (t *fakeTunnel) Configure(pipe.Configure)                           {}
func (t *fakeTunnel) Send(uint64, pipe.Message) error                    { return errNone }
func (t *fakeTunnel) Connect(netip.AddrPort, netip.AddrPort, bool) error { return errNone }
func (t *fakeTunnel) Bind(netip.AddrPort) error                          { return errNone }
func (t *fakeTunnel) Remote() netip.AddrPort                             { return netip.AddrPort{} }
func (t *fakeTunnel) LocalPort() uint16                                  { return 0 }
func (t *fakeTunnel) SetCarrier(bool) error                              { return nil }
func (t *fakeTunnel) Carrier() bool                                      { return false }
func (t *fakeTunnel) Number() uint32                                     { return 0 }

func (t *fakeTunnel) Resume(*supervisor.State) {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	t.k.resumed[t.k.devices[t.name]]++
}

func (t *fakeTunnel) HandOver(context.Context) (supervisor.State, error) {
	return supervisor.State{}, errNone
}
func (t *fakeTunnel) Stalled() bool { return t.k.stalled.Load() }

// rig is a daemon over a kernel stand-in, with its configuration in a directory.
type rig struct {
	*Daemon
	k   *kernel
	dir string
}

// newRig starts the peers of a configuration: lines "[peer.x]" and keys; public keys
// and [node] are filled in.
func newRig(t *testing.T, k *kernel, text string) *rig {
	t.Helper()
	r := &rig{k: k, dir: t.TempDir()}
	own := keys.GenerateSecret()
	if err := os.WriteFile(filepath.Join(r.dir, "private.key"), own.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	r.write(t, text)
	path := filepath.Join(r.dir, "tund.toml")
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Daemon = &Daemon{
		o:   Options{Config: path, Socket: filepath.Join(r.dir, "sock")},
		log: slog.New(slog.DiscardHandler), started: time.Now(), members: map[string]*member{},
	}
	if err := r.prepare(cfg); err != nil {
		t.Fatal(err)
	}
	r.open = k.open
	t.Cleanup(r.node.net.Close)
	t.Cleanup(func() { r.gates.closeAll(r.gates.open) })
	t.Cleanup(func() { r.stopAll(errStopping) })
	r.gates.set(t.Context(), cfg.Node.Listen)
	for _, p := range cfg.Peers {
		missing, err := r.start(context.WithoutCancel(t.Context()), p, nil).Missing(t.Context())
		if err != nil || len(missing) > 0 {
			t.Fatal(missing, err)
		}
	}
	return r
}

// write replaces the configuration. Each peer gets a public key made from its name.
func (r *rig) write(t *testing.T, text string) {
	t.Helper()
	full := "[node]\nprivate_key_file = \"private.key\"\n"
	for line := range strings.Lines(text) {
		full += strings.TrimSpace(line) + "\n"
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "[peer."); ok {
			full += fmt.Sprintf("public_key = %q\nendpoints = [\"192.0.2.1:9\"]\n", keyOf(strings.TrimSuffix(name, "]")))
		}
	}
	if err := os.WriteFile(filepath.Join(r.dir, "tund.toml"), []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
}

func keyOf(name string) string {
	var seed keys.Secret
	copy(seed[:], name)
	return keys.NewIdentity(&seed).Public().String()
}

// change writes a configuration, reloads it and returns what became of each peer.
func (r *rig) change(t *testing.T, text string) (ctl.ReloadOutcome, string) {
	t.Helper()
	r.write(t, text)
	result := r.reload(context.WithoutCancel(t.Context()), bySignal())
	var peers []string
	for _, p := range result.Peers {
		text := p.Name + " " + string(p.Action)
		if len(p.Missing) > 0 {
			text += ": lacks " + strings.Join(p.Missing, "; ")
		}
		peers = append(peers, text)
	}
	return result.Result, strings.Join(peers, ", ")
}
