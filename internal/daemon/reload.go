package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
)

// applyLimit is how long a peer may take to apply its part of a reload: less than the
// service manager waits for a sign of life.
const applyLimit = 5 * time.Second

// errRemoved is the reason that a removed peer is told.
var errRemoved = errors.New("the peer has been removed from the configuration")

// reload is the one way a configuration comes into force after the start, whoever
// asked for it: load, validate, compare, apply. What does not load or validate
// changes nothing.
func (d *Daemon) reload(ctx context.Context, by asker) ctl.ReloadResult {
	cfg, err := config.Load(d.o.Config)
	return d.inForce(ctx, cfg, err, by)
}

// inForce puts what Load has returned into force.
func (d *Daemon) inForce(ctx context.Context, cfg *config.Config, err error, by asker) ctl.ReloadResult {
	d.settled()
	d.report("readiness", d.notify.Reloading())
	defer func() { d.report("readiness", d.notify.Ready()) }()
	if err != nil {
		return d.refuse(err)
	}
	d.watcher.SetFiles(cfg.Files)
	if d.tried == cfg.Digest && !by.asked {
		return ctl.ReloadResult{Schema: ctl.Schema, Result: ctl.ReloadUnchanged, Peers: []ctl.ReloadPeer{}, Errors: []ctl.ConfigError{}}
	}
	d.tried = cfg.Digest
	result := ctl.ReloadResult{Schema: ctl.Schema, Result: ctl.ReloadUnchanged, Errors: []ctl.ConfigError{}}
	old := d.node.config()
	diff := config.Diff(old, cfg)
	told, node := actions(old, cfg, diff), changes(config.NodeSettings(&old.Node, &cfg.Node, diff.Node))
	if diff.Changed() {
		result = d.apply(ctx, cfg, diff, told)
	} else {
		d.node.use(cfg)
		result.Peers = told
	}
	if result.Result != ctl.ReloadRefused {
		d.fillMissing(ctx, &result)
		result.Node = node
		d.logReload(by, result)
		d.findOverlaps()
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
	d.tried = [32]byte{}
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
	d.mu.Lock()
	known := d.loadErr == text
	d.loadErr = text
	d.mu.Unlock()
	if !known {
		d.log.Error("configuration refused", "path", d.o.Config, "err", text)
	}
}

func (d *Daemon) loaded(result ctl.ReloadResult) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loadedAt, d.loadErr = time.Now(), ""
	for _, p := range result.Peers {
		if p.Action == ctl.ActionRefused && len(p.Missing) == 0 { // else it has its configuration, and waits
			d.loadErr = "peer " + p.Name + ": " + p.Reason
		}
	}
}

// apply puts cfg into force: the listeners; then everything that a peer gives up, then
// everything that one gets, so that names, addresses and routes can move between
// peers. A peer whose tunnel can't be made anew keeps what it had, and says why.
func (d *Daemon) apply(ctx context.Context, cfg *config.Config, diff config.Difference, told []ctl.ReloadPeer) ctl.ReloadResult {
	if diff.Listen {
		d.gates.set(ctx, cfg.Node.Listen)
	}
	d.node.use(cfg)
	if diff.Identity {
		d.report("listener", d.gates.setIdentity(d.node.Identity()))
	}
	result := ctl.ReloadResult{Schema: ctl.Schema, Result: ctl.ReloadApplied, Peers: told, Errors: []ctl.ConfigError{}}
	d.makeRoom(ctx, diff)
	d.freeNetworks(ctx, cfg, diff)
	for i, err := range d.applyPeers(ctx, cfg, diff) {
		if err == nil {
			continue
		}
		result.Result = ctl.ReloadPartly
		d.log.Error("peer not changed", "peer", result.Peers[i].Name, "err", err)
		result.Peers[i].Action, result.Peers[i].Reason, result.Peers[i].Changes = ctl.ActionRefused, err.Error(), nil
	}
	d.keepRefused(cfg, result)
	if diff.Identity || slices.Contains(diff.Node, "aead") {
		d.reconnectAll(ctx) // both are settled at the beginning of a session
	}
	return result
}

// fillMissing says what is wanted and can't be had now: it is tried again. A peer that does not
// answer in time is one whose parts are not known.
func (d *Daemon) fillMissing(ctx context.Context, result *ctl.ReloadResult) {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	var wg sync.WaitGroup
	for i := range result.Peers {
		p := &result.Peers[i]
		p.Missing = []string{}
		if m := d.byName(p.Name); m != nil && p.Action != ctl.ActionRefused {
			wg.Go(func() {
				missing, err := m.Missing(ctx)
				if err != nil {
					return
				}
				p.Missing = missing.Strings()
				if p.Action == ctl.ActionAdded && missing.Has("tunnel") {
					p.Action, p.Reason = ctl.ActionRefused, missing.String() // and tries again
				}
			})
		}
	}
	wg.Wait()
	d.petWatchdog(ctx)
	result.Missing = d.gates.lacks()
	if len(result.Missing) > 0 || slices.ContainsFunc(result.Peers, func(p ctl.ReloadPeer) bool { return len(p.Missing) > 0 }) {
		result.Result = ctl.ReloadPartly
	}
}

// makeRoom ends the peers that are gone, and takes down the tunnels that will be made
// anew: all names, addresses and routes that they give up are free then.
func (d *Daemon) makeRoom(ctx context.Context, diff config.Difference) {
	var wg sync.WaitGroup
	for _, c := range diff.Peers {
		m := d.byName(c.Name)
		switch {
		case m == nil:
		case c.Action == config.ActionRemoved:
			wg.Go(func() { d.stopMembers(errRemoved, m) })
		case rebuilds(c):
			wg.Go(func() { _ = m.Release(ctx) }) // fails only when tund stops
		}
	}
	wg.Wait()
	d.petWatchdog(ctx)
}

// rebuilds tells whether a change takes the tunnel down, and perhaps up again.
func rebuilds(c config.Change) bool {
	return c.Action == config.ActionChild || c.Action == config.ActionLive && slices.Contains(c.Keys, "enabled")
}

// applyPeers changes and starts peers, all at the same time, and returns what has
// failed in the order of diff.Peers. The order in which they come through does not
// matter: nothing that one of them needs is still held by another.
func (d *Daemon) applyPeers(ctx context.Context, cfg *config.Config, diff config.Difference) []error {
	failed := make([]error, len(diff.Peers))
	var wg sync.WaitGroup
	for i, c := range diff.Peers {
		wg.Go(func() { failed[i] = d.applyPeer(ctx, cfg, c) })
	}
	wg.Wait()
	d.petWatchdog(ctx)
	return failed
}

// applyPeer changes or starts one peer.
func (d *Daemon) applyPeer(ctx context.Context, cfg *config.Config, c config.Change) error {
	want, _ := cfg.Peer(c.Name)
	switch c.Action {
	case config.ActionAdded:
		d.start(ctx, want, nil)
		return nil
	case config.ActionLive, config.ActionChild:
		ctx, cancel := context.WithTimeout(ctx, applyLimit)
		defer cancel()
		return d.byName(c.Name).Update(ctx, want, c)
	case config.ActionUnchanged, config.ActionRemoved:
	}
	return nil
}

// freeNetworks takes from peers that change live what another one needs as a route,
// be it a route or the network of an address: the kernel has each route once only.
func (d *Daemon) freeNetworks(ctx context.Context, cfg *config.Config, diff config.Difference) {
	wanted := make(map[netip.Prefix]string)
	for _, p := range cfg.Peers {
		for _, r := range p.Routes {
			wanted[r] = p.Name
		}
	}
	var wg sync.WaitGroup
	for _, c := range diff.Peers {
		m := d.byName(c.Name)
		if c.Action != config.ActionLive || rebuilds(c) || m == nil {
			continue
		}
		kept, less := without(m.Config(), func(n netip.Prefix) bool {
			owner, ok := wanted[n.Masked()]
			return ok && owner != c.Name
		})
		if less {
			wg.Go(func() { d.free(ctx, m, kept) })
		}
	}
	wg.Wait()
	d.petWatchdog(ctx)
}

func (d *Daemon) free(ctx context.Context, m *member, kept config.Peer) {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	if err := m.Update(ctx, kept, config.Change{Name: kept.Name, Action: config.ActionLive}); err != nil {
		d.log.Warn("networks not freed", "peer", kept.Name, "err", err)
	}
}

// without returns p without the networks that are to go, and whether there were any.
func without(p config.Peer, gone func(netip.Prefix) bool) (kept config.Peer, less bool) {
	kept = p
	kept.Routes = slices.DeleteFunc(slices.Clone(p.Routes), gone)
	kept.Addresses = slices.DeleteFunc(slices.Clone(p.Addresses), gone)
	far := p.PeerAddress
	if far.IsValid() && (gone(netip.PrefixFrom(far, far.BitLen())) || len(kept.Addresses) < len(p.Addresses)) {
		kept.PeerAddress = netip.Addr{}
	}
	less = len(kept.Routes) < len(p.Routes) || len(kept.Addresses) < len(p.Addresses) || kept.PeerAddress != far
	return kept, less
}

// keepRefused notes what is really in force where a peer did not take its change, so
// that the next reload tries again.
func (d *Daemon) keepRefused(cfg *config.Config, result ctl.ReloadResult) {
	inForce := *cfg
	inForce.Peers = slices.Clone(cfg.Peers)
	for _, p := range result.Peers {
		m := d.byName(p.Name)
		if p.Action != ctl.ActionRefused || m == nil {
			continue
		}
		i := slices.IndexFunc(inForce.Peers, func(k config.Peer) bool { return k.Name == p.Name })
		inForce.Peers[i] = m.Config()
	}
	if result.Result == ctl.ReloadPartly {
		d.node.use(&inForce)
	}
}

func (d *Daemon) reconnectAll(ctx context.Context) {
	for _, m := range d.all() {
		_ = m.Reconnect(ctx)
	}
}
