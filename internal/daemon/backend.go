package daemon

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tund/internal/ctl"
	"tund/internal/handover"
	"tund/internal/peer"
)

// backend answers the control socket.
type backend Daemon

// Status implements ctl.Backend.
func (b *backend) Status(ctx context.Context) (ctl.Status, error) {
	d := (*Daemon)(b)
	status := ctl.Status{Schema: ctl.Schema, Node: d.nodeStatus(), Peers: []ctl.PeerStatus{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range d.all() {
		wg.Go(func() {
			if s, err := m.Status(ctx); err == nil {
				s.Warnings = append(s.Warnings, d.overlaps.of(s.Interface)...)
				mu.Lock()
				status.Peers = append(status.Peers, s)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.SortFunc(status.Peers, func(a, b ctl.PeerStatus) int { return strings.Compare(a.Name, b.Name) })
	return status, ctx.Err()
}

func (d *Daemon) nodeStatus() ctl.NodeStatus {
	name, err := os.Hostname()
	if err != nil {
		name = "?"
	}
	d.mu.RLock()
	s := ctl.NodeStatus{
		Name:      name,
		PublicKey: d.node.Identity().Public().String(),
		Version:   d.o.Version,
		PID:       os.Getpid(),
		UptimeS:   int64(time.Since(d.started) / time.Second),
		Config:    ctl.ConfigStatus{Path: d.o.Config, LoadedAt: time.Now().Add(-time.Since(d.loadedAt)), Error: d.loadErr},

		Instance: d.instance(), RestartError: d.restartErr,
	}
	s.Config.Error = cmp.Or(s.Config.Error, d.waitsLocked())
	d.mu.RUnlock()
	if s.Config.Error == "" {
		if err := d.watcher.Err(); err != nil {
			s.Config.Error = "files are not watched, only looked at now and then: " + err.Error()
		}
	}
	d.gates.count(&s)
	return s
}

// instance is another one with each start of the program.
func (d *Daemon) instance() string { return handover.ID(d.node.Instance()).String() }

// RotateKey implements ctl.Backend.
func (b *backend) RotateKey(ctx context.Context, peers []string) (ctl.Rotation, error) {
	return b.rotate(ctx, peers, (*peer.Peer).RotateKey)
}

// RotateIV implements ctl.Backend.
func (b *backend) RotateIV(ctx context.Context, peers []string) (ctl.Rotation, error) {
	return b.rotate(ctx, peers, (*peer.Peer).RotateIV)
}

// rotate rotates at several peers at once.
func (b *backend) rotate(ctx context.Context, names []string, one func(*peer.Peer, context.Context) ctl.PeerResult) (ctl.Rotation, error) {
	members, err := b.choose(names)
	if err != nil {
		return ctl.Rotation{}, err
	}
	r := ctl.Rotation{Schema: ctl.Schema, Results: make([]ctl.PeerResult, len(members))}
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { r.Results[i] = one(m.Peer, ctx) })
	}
	wg.Wait()
	return r, nil
}

// choose finds peers by name; without names all that are enabled, sorted.
func (b *backend) choose(names []string) ([]*member, error) {
	var found []*member
	for _, name := range names {
		m, err := b.member(name)
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	if len(names) > 0 {
		return found, nil
	}
	for _, p := range b.node.config().Peers {
		if m := (*Daemon)(b).byName(p.Name); m != nil && p.Enabled {
			found = append(found, m)
		}
	}
	return found, nil
}

func (b *backend) member(name string) (*member, error) {
	if m := (*Daemon)(b).byName(name); m != nil {
		return m, nil
	}
	var known []string
	for _, m := range (*Daemon)(b).all() {
		known = append(known, m.Name())
	}
	slices.SortFunc(known, cmp.Compare)
	return nil, ctl.UnknownPeer(name, known)
}

// Up implements ctl.Backend.
func (b *backend) Up(ctx context.Context, name string) error {
	m, err := b.member(name)
	if err != nil {
		return err
	}
	return m.Up(ctx)
}

// Down implements ctl.Backend.
func (b *backend) Down(ctx context.Context, name string, both bool) (ctl.DownResult, error) {
	m, err := b.member(name)
	if err != nil {
		return ctl.DownResult{}, err
	}
	return m.Down(ctx, both)
}

// Shutdown implements ctl.Backend.
func (b *backend) Shutdown(ctx context.Context, name string) (ctl.DownResult, error) {
	m, err := b.member(name)
	if err != nil {
		return ctl.DownResult{}, err
	}
	return m.Shutdown(ctx)
}

// Reload implements ctl.Backend.
func (b *backend) Reload(ctx context.Context) ctl.ReloadResult {
	reply := make(chan ctl.ReloadResult, 1)
	select {
	case b.reloads <- reloadRequest{byCommand(ctx), reply}:
		return <-reply
	case <-ctx.Done():
		why := "not loaded: tund is stopping"
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			why = "not loaded: tund is busy with another reload"
		}
		return refusal(ctl.ConfigError{File: b.o.Config, Message: why})
	}
}
