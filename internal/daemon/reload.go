package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
)

// applyLimit is how long a peer may take to apply its part of a reload.
const applyLimit = 10 * time.Second

// errRemoved is the reason that a removed peer is told.
var errRemoved = errors.New("the peer has been removed from the configuration")

// reload is the one way a configuration comes into force after the start, whoever
// asked for it: load, validate, compare, apply. What does not load or validate
// changes nothing.
func (d *Daemon) reload(ctx context.Context) ctl.ReloadResult {
	d.report("readiness", d.notify.Reloading())
	defer func() { d.report("readiness", d.notify.Ready()) }()
	cfg, err := config.Load(d.o.Config)
	if err != nil {
		return d.refuse(err)
	}
	d.watcher.SetFiles(cfg.Files)
	old := d.node.config()
	result := ctl.ReloadResult{Schema: ctl.Schema, Result: ctl.ReloadUnchanged, Errors: []ctl.ConfigError{}}
	diff := config.Diff(old, cfg)
	if diff.Changed() {
		result = d.apply(ctx, old, cfg, diff)
	} else {
		d.node.use(cfg)
		result.Peers = actions(diff)
	}
	if result.Result != ctl.ReloadRefused {
		d.loaded(result)
	}
	return result
}

// refuse answers a configuration that is not valid, and watches the files that could
// mend it.
func (d *Daemon) refuse(err error) ctl.ReloadResult {
	result := refusal(ctl.ConfigError{File: d.o.Config, Message: err.Error()})
	if invalid, ok := errors.AsType[*config.Errors](err); ok {
		d.watcher.SetFiles(append(invalid.Files, d.node.config().Files...))
		result.Errors = result.Errors[:0]
		for _, p := range invalid.Problems {
			result.Errors = append(result.Errors, ctl.ConfigError{File: p.File, Line: p.Line, Key: p.Key, Message: p.Message})
		}
	}
	d.failedToLoad(err.Error())
	return result
}

func refusal(e ctl.ConfigError) ctl.ReloadResult {
	return ctl.ReloadResult{
		Schema: ctl.Schema, Result: ctl.ReloadRefused,
		Peers: []ctl.ReloadPeer{}, Errors: []ctl.ConfigError{e},
	}
}

func (d *Daemon) failedToLoad(text string) {
	d.log.Error("configuration refused", "path", d.o.Config, "err", text)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loadErr = text
}

func (d *Daemon) loaded(result ctl.ReloadResult) {
	if result.Result != ctl.ReloadUnchanged {
		d.log.Info("configuration applied", "path", d.o.Config, "to", string(result.Result))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loadedAt, d.loadErr = time.Now(), ""
	for _, p := range result.Peers {
		if p.Action == ctl.ActionRefused {
			d.loadErr = "peer " + p.Name + ": " + p.Reason
		}
	}
}

// actions translates a comparison into what the caller of a reload is told.
func actions(diff config.Difference) []ctl.ReloadPeer {
	peers := make([]ctl.ReloadPeer, len(diff.Peers))
	for i, c := range diff.Peers {
		peers[i] = ctl.ReloadPeer{Name: c.Name, Action: ctl.ReloadAction(c.Action), Reason: strings.Join(c.Keys, ", ")}
	}
	return peers
}

// apply puts cfg into force: listeners, then peers that go, change and come, in that
// order, so that names, addresses and routes are free when they are needed. A peer
// that can't change keeps what it had, and says why.
func (d *Daemon) apply(ctx context.Context, old, cfg *config.Config, diff config.Difference) ctl.ReloadResult {
	if diff.Listen {
		if err := d.gates.set(ctx, cfg.Node.Listen); err != nil {
			d.failedToLoad(err.Error())
			return refusal(ctl.ConfigError{File: cfg.Path, Key: "node.listen", Message: err.Error()})
		}
	}
	d.node.use(cfg)
	if diff.Identity {
		d.report("listener", d.gates.setIdentity(d.node.Identity()))
	}
	result := ctl.ReloadResult{Schema: ctl.Schema, Result: ctl.ReloadApplied, Peers: actions(diff), Errors: []ctl.ConfigError{}}
	d.remove(result.Peers)
	d.freeRoutes(ctx, old, cfg, diff)
	for i, c := range diff.Peers {
		if err := d.applyPeer(ctx, cfg, c); err != nil {
			result.Result = ctl.ReloadPartly
			result.Peers[i].Reason = err.Error()
			if c.Action != config.ActionAdded { // a new peer is there, and tries again
				result.Peers[i].Action = ctl.ActionRefused
			}
			d.log.Error("peer not changed", "peer", c.Name, "err", err)
		}
	}
	d.keepRefused(old, cfg, result)
	if diff.Identity || slices.Contains(diff.Node, "aead") {
		d.reconnectAll(ctx) // both are settled at the beginning of a session
	}
	return result
}

// remove ends the peers that are gone.
func (d *Daemon) remove(peers []ctl.ReloadPeer) {
	var gone []*member
	for _, p := range peers {
		if m := d.byName(p.Name); m != nil && p.Action == ctl.ActionRemoved {
			gone = append(gone, m)
		}
	}
	d.stopMembers(errRemoved, gone...)
}

// applyPeer changes or starts one peer.
func (d *Daemon) applyPeer(ctx context.Context, cfg *config.Config, c config.Change) error {
	want, _ := cfg.Peer(c.Name)
	switch c.Action {
	case config.ActionAdded:
		return d.start(ctx, want).Opened(ctx)
	case config.ActionLive, config.ActionChild:
		ctx, cancel := context.WithTimeout(ctx, applyLimit)
		defer cancel()
		return d.byName(c.Name).Update(ctx, want, c)
	case config.ActionUnchanged, config.ActionRemoved:
	}
	return nil
}

// freeRoutes takes routes away from peers that lose them to another one, so that the
// order in which peers are changed does not matter.
func (d *Daemon) freeRoutes(ctx context.Context, old, cfg *config.Config, diff config.Difference) {
	wanted := make(map[netip.Prefix]string)
	for _, p := range cfg.Peers {
		for _, r := range p.Routes {
			wanted[r] = p.Name
		}
	}
	for _, c := range diff.Peers {
		was, _ := old.Peer(c.Name)
		kept := slices.DeleteFunc(slices.Clone(was.Routes), func(r netip.Prefix) bool {
			owner, ok := wanted[r]
			return ok && owner != c.Name
		})
		m := d.byName(c.Name)
		if c.Action != config.ActionLive || len(kept) == len(was.Routes) || m == nil {
			continue
		}
		was.Routes = kept
		if err := m.Update(ctx, was, config.Change{Name: c.Name, Action: config.ActionLive}); err != nil {
			d.log.Warn("routes not freed", "peer", c.Name, "err", err)
		}
	}
}

// keepRefused notes what is really in force where a peer did not take its change, so
// that the next reload tries again.
func (d *Daemon) keepRefused(old, cfg *config.Config, result ctl.ReloadResult) {
	if result.Result != ctl.ReloadPartly {
		return
	}
	inForce := *cfg
	inForce.Peers = slices.Clone(cfg.Peers)
	for _, p := range result.Peers {
		was, ok := old.Peer(p.Name)
		if p.Action != ctl.ActionRefused || !ok {
			continue
		}
		i := slices.IndexFunc(inForce.Peers, func(k config.Peer) bool { return k.Name == p.Name })
		inForce.Peers[i] = was
	}
	d.node.use(&inForce)
}

func (d *Daemon) reconnectAll(ctx context.Context) {
	for _, m := range d.all() {
		_ = m.Reconnect(ctx)
	}
}
