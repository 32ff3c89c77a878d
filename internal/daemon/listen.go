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
	"tund/internal/parts"
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

// gates are all listen addresses. Each stands alone: one that can't be had is tried again, and what can
// be had works. They belong to the daemon's Run goroutine, but for the counters.
type gates struct {
	log       *slog.Logger
	options   session.ListenerOptions
	inherited *sockets
	publish   func(absent []netip.AddrPort) // hears which of those wanted are not open

	wanted []netip.AddrPort
	pace   parts.Pace
	again  *time.Timer // at due, to try those that are missing
	due    time.Time

	mu      sync.Mutex
	open    []*gate
	missing parts.List
	drops   uint64 // of gates that are closed
}

// set opens what is new in addrs and closes what is no longer there.
func (g *gates) set(ctx context.Context, addrs []netip.AddrPort) {
	g.wanted = addrs
	gone := slices.DeleteFunc(slices.Clone(g.open), func(k *gate) bool { return slices.Contains(addrs, k.addr) })
	missing := g.openAll(ctx)
	inTheWay := slices.DeleteFunc(slices.Clone(gone), func(k *gate) bool { return !samePort(k.addr, addrs) })
	if len(missing) > 0 && len(inTheWay) > 0 {
		g.closeAll(inTheWay) // [::]:7900 and 0.0.0.0:7900 exclude each other
		missing = g.openAll(ctx)
	}
	g.closeAll(slices.DeleteFunc(gone, func(k *gate) bool { return !slices.Contains(g.open, k) })) // but none twice
	g.note(missing)
}

// retry opens what is missing.
func (g *gates) retry(ctx context.Context) { g.note(g.openAll(ctx)) }

// note remembers what is missing, says so once, and plans the next try.
func (g *gates) note(missing parts.List) {
	g.mu.Lock()
	before := g.missing
	g.missing = missing
	g.mu.Unlock()
	for _, m := range missing {
		if !before.Includes(m) {
			g.log.Warn("not listening", "addr", m.Part, "err", m.Err, "restart_in", parts.Again)
		}
	}
	g.publish(g.absent())
	g.pace.Tried(time.Now(), false)
	g.again.Stop()
	if len(missing) > 0 {
		g.due = time.Now().Add(parts.Again)
		g.again.Reset(parts.Again)
	}
}

// sign says that what is missing may be had now.
func (g *gates) sign() {
	if at := g.pace.Next(time.Now()); len(g.missing) > 0 && at.Before(g.due) {
		g.due = at
		g.again.Reset(time.Until(at))
	}
}

// absent are those wanted that are not open.
func (g *gates) absent() []netip.AddrPort {
	open := addrsOf(g.open)
	return slices.DeleteFunc(slices.Clone(g.wanted), func(a netip.AddrPort) bool { return slices.Contains(open, a) })
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

// openAll opens those wanted that are not open, and returns those that it could not.
func (g *gates) openAll(ctx context.Context) (missing parts.List) {
	for _, addr := range g.absent() {
		k, err := g.openOne(ctx, addr)
		if err != nil {
			missing.Add(addr.String(), err)
			continue
		}
		g.add(k)
	}
	return missing
}

func (g *gates) openOne(ctx context.Context, addr netip.AddrPort) (*gate, error) {
	door, err := udp.ListenDoor(addr)
	if err != nil {
		return nil, fmt.Errorf("UDP: %w", cause(err))
	}
	listener, from, err := g.listen(addr)
	if err != nil {
		_ = door.Close()
		return nil, fmt.Errorf("TCP: %w", cause(err))
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

// cause leaves out of an error the address, which its reader has.
func cause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
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

func (g *gates) add(k *gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = append(g.open, k)
}

// lacks are the listeners that can't be had now, and why.
func (g *gates) lacks() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	texts := g.missing.Strings()
	for i := range texts {
		texts[i] = "listen " + texts[i]
	}
	return texts
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
	s.Missing = g.lacks()
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
