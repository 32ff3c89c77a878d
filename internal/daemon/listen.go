package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"tund/internal/ctl"
	"tund/internal/keys"
	"tund/internal/session"
	"tund/internal/udp"
)

// gate is one listen address: the TCP listener of control sessions and the UDP door,
// which holds the port for the data sockets of the peers and counts strangers.
type gate struct {
	addr     netip.AddrPort
	listener *session.Listener
	door     *udp.Door
	stop     context.CancelFunc
	ended    chan struct{}
}

// gates are all listen addresses. They belong to the daemon's Run goroutine, but for
// the counters.
type gates struct {
	log       *slog.Logger
	options   session.ListenerOptions
	inherited *sockets

	mu    sync.Mutex
	open  []*gate
	drops uint64 // of gates that are closed
}

// set opens what is new in addrs and closes what is no longer there. On an error the
// gates are as they were.
func (g *gates) set(ctx context.Context, addrs []netip.AddrPort) error {
	gone := slices.DeleteFunc(slices.Clone(g.open), func(k *gate) bool { return slices.Contains(addrs, k.addr) })
	inTheWay := slices.DeleteFunc(slices.Clone(gone), func(k *gate) bool { return !samePort(k.addr, addrs) })
	fresh, err := g.openAll(ctx, addrs)
	if errors.Is(err, syscall.EADDRINUSE) && len(inTheWay) > 0 {
		g.closeAll(inTheWay) // [::]:7900 and 0.0.0.0:7900 exclude each other
		if fresh, err = g.openAll(ctx, addrs); err != nil {
			back, lost := g.openAll(ctx, addrsOf(inTheWay))
			g.add(back)
			return errors.Join(err, lost)
		}
	}
	if err != nil {
		return err
	}
	g.closeAll(slices.DeleteFunc(gone, func(k *gate) bool { return !slices.Contains(g.open, k) })) // but none twice
	g.add(fresh)
	return nil
}

func samePort(addr netip.AddrPort, others []netip.AddrPort) bool {
	return slices.ContainsFunc(others, func(o netip.AddrPort) bool { return o.Port() == addr.Port() })
}

func addrsOf(gates []*gate) []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(gates))
	for i, k := range gates {
		addrs[i] = k.addr
	}
	return addrs
}

// openAll opens those of addrs that are not open, all or none.
func (g *gates) openAll(ctx context.Context, addrs []netip.AddrPort) ([]*gate, error) {
	var fresh []*gate
	for _, addr := range addrs {
		if slices.Contains(addrsOf(g.open), addr) {
			continue
		}
		k, err := g.openOne(ctx, addr)
		if err != nil {
			g.closeAll(fresh)
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		fresh = append(fresh, k)
	}
	return fresh, nil
}

func (g *gates) openOne(ctx context.Context, addr netip.AddrPort) (*gate, error) {
	door, err := udp.ListenDoor(addr)
	if err != nil {
		return nil, err
	}
	listener, from, err := g.listen(addr)
	if err != nil {
		return nil, errors.Join(err, door.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	k := &gate{addr: addr, listener: listener, door: door, stop: stop, ended: make(chan struct{})}
	go func() { // ends when closeAll calls stop
		defer close(k.ended)
		if err := listener.Run(ctx); err != nil {
			g.log.Error("listener ended", "addr", addr.String(), "err", err)
		}
	}()
	g.log.Info("listening", "addr", addr.String(), "from", from)
	return k, nil
}

// listen prefers a socket that is there already, and says where the listener comes from.
func (g *gates) listen(addr netip.AddrPort) (l *session.Listener, from string, err error) {
	if tcp := g.inherited.tcp(addr); tcp != nil {
		l, err = session.ListenOn(tcp, g.options)
		return l, "inherited socket", err
	}
	l, err = session.Listen(addr, g.options)
	return l, "own socket", err
}

func (g *gates) add(fresh []*gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = append(g.open, fresh...)
}

// closeAll closes gates, open or not, and keeps their counters.
func (g *gates) closeAll(gone []*gate) {
	for _, k := range gone {
		k.stop()
		<-k.ended
		g.mu.Lock()
		g.open = slices.DeleteFunc(slices.Clone(g.open), func(o *gate) bool { return o == k })
		g.drops += k.door.Drops()
		g.mu.Unlock()
		_ = k.door.Close()
	}
}

// setIdentity makes all listeners answer as id from now on.
func (g *gates) setIdentity(id *keys.Identity) error {
	g.options.Identity = id
	for _, k := range g.open {
		if err := k.listener.SetIdentity(id); err != nil {
			return fmt.Errorf("listen on %s: %w", k.addr, err)
		}
	}
	return nil
}

// count fills in what did not get in.
func (g *gates) count(s *ctl.NodeStatus) {
	g.mu.Lock()
	defer g.mu.Unlock()
	drops := g.drops
	s.Listen = []string{}
	for _, k := range g.open {
		s.Listen = append(s.Listen, k.listener.Addr().String())
		drops += k.door.Drops()
	}
	s.Drops.Stranger = drops
	refused := g.options.Admission.Refused()
	s.Refused = ctl.Refused{
		Prelude: refused.Prelude, Replay: refused.Replay, TLS: refused.TLS,
		UnknownKey: refused.UnknownKey, Limit: refused.Limit,
	}
	s.RefusedKeys = []ctl.RefusedKey{}
	for _, k := range g.options.Admission.RefusedKeys() {
		s.RefusedKeys = append(s.RefusedKeys, ctl.RefusedKey{
			PublicKey: k.Key.String(), Endpoint: k.Remote.String(), Last: k.Last, AgeS: int64(time.Since(k.Last) / time.Second), Count: k.Count,
		})
	}
}
