package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"sync/atomic"

	"tund/internal/config"
	"tund/internal/netcfg"
	"tund/internal/pipe"
	"tund/internal/supervisor"
	"tund/internal/tuntap"
	"tund/internal/udp"
)

// Tunnel is all that a peer holds while it is not ordered down: device, addresses,
// data socket and child. Its methods belong to the peer's Run goroutine.
type Tunnel interface {
	// Configure is what the present child is told at its start, and every later one.
	Configure(c pipe.Configure)
	// Offloads are what the child may make use of.
	Offloads() pipe.Offloads
	// Send gives m to the child of that number; to no other.
	Send(child uint64, m pipe.Message) error
	// Apply changes addresses, routes, MTU and bridge to s, whole or not at all.
	Apply(s netcfg.Settings) error
	// Restore puts back what someone else removed.
	Restore() error
	// Connect makes the data socket talk with remote and nobody else, from local. Where
	// it does already, nothing happens to its packets.
	// Datagrams larger than the way carries are fragmented if fragment is set.
	Connect(local, remote netip.AddrPort, fragment bool) error
	// Bind chooses the socket's port; nothing is received before Connect.
	Bind(local netip.AddrPort) error
	// Remote is what Connect was given; zero before.
	Remote() netip.AddrPort
	// LocalPort is the port of the data socket; 0 before Bind or Connect.
	LocalPort() uint16
	// SetCarrier says whether the device has a peer behind it.
	SetCarrier(up bool) error
	// Stalled tells whether nobody looks after the child any more.
	Stalled() bool
	// Close ends the child, waits for it and frees everything. A device that the
	// administrator made stays, without what tund had put on it.
	Close()
}

// Opener makes a tunnel whose child reports to events.
type Opener func(log *slog.Logger, cfg config.Peer, s netcfg.Settings, events chan<- supervisor.Event) (Tunnel, error)

// tunnel is the real Tunnel.
type tunnel struct {
	net       *netcfg.Manager
	device    *tuntap.Device
	socket    *udp.Socket
	child     *supervisor.Supervisor
	settings  netcfg.Settings
	single    bool // packets move one by one
	configure atomic.Pointer[pipe.Configure]
	stop      context.CancelFunc
	ended     chan struct{} // closed when the supervisor has returned
}

// NewOpener returns the Opener of the real thing. engine says what a child
// shall seal and open with, when it starts. command makes the process of a child; nil
// stands for this program in its other role.
func NewOpener(net *netcfg.Manager, engine func() string, command func(name string) *exec.Cmd) Opener {
	return func(log *slog.Logger, cfg config.Peer, s netcfg.Settings, events chan<- supervisor.Event) (Tunnel, error) {
		mode, err := tuntap.ParseMode(cfg.Mode)
		if err != nil {
			return nil, err
		}
		device, err := tuntap.Open(tuntap.Options{Name: cfg.Interface, Mode: mode, Queue: cfg.Queue, Offloads: deviceOffloads(cfg)})
		if err != nil {
			return nil, err
		}
		t := &tunnel{net: net, device: device, single: cfg.Offload == config.OffloadOff, ended: make(chan struct{})}
		if err := t.furnish(s); err != nil {
			return nil, errors.Join(err, device.Close())
		}
		t.child = supervisor.New(supervisor.Options{
			Log:         log,
			Name:        cfg.Name,
			Device:      device.File(),
			Socket:      t.socket.File(),
			Command:     command,
			Environment: func() []string { return []string{pipe.EngineVariable + "=" + engine()} },
			Configure:   func() pipe.Configure { return *t.configure.Load() },
			Events:      events,
		})
		return t, nil
	}
}

// deviceOffloads are those that the device shall have, as far as the kernel can.
func deviceOffloads(cfg config.Peer) tuntap.Offloads {
	if cfg.Offload == config.OffloadOff {
		return 0
	}
	return tuntap.OffloadAll
}

// furnish gives the device its settings and makes the socket.
func (t *tunnel) furnish(s netcfg.Settings) error {
	if err := t.device.SetCarrier(false); err != nil {
		return err
	}
	if err := t.net.Apply(netcfg.Settings{Interface: s.Interface}, s); err != nil {
		return err
	}
	t.settings = s
	socket, err := udp.NewSocket()
	if err != nil {
		return errors.Join(fmt.Errorf("open udp socket: %w", err), t.unfurnish())
	}
	t.socket = socket
	return nil
}

// unfurnish takes off the device what furnish and Apply have put on it.
func (t *tunnel) unfurnish() error {
	defer t.net.Forget(t.settings.Interface)
	if t.device.Created() {
		return nil // it goes as a whole
	}
	return t.net.Apply(t.settings, netcfg.Settings{Interface: t.settings.Interface})
}

// Configure implements Tunnel. The first call starts the child.
func (t *tunnel) Configure(c pipe.Configure) {
	if t.configure.Swap(&c) != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	go func() { // ends when Close calls stop
		defer close(t.ended)
		_ = t.child.Run(ctx)
	}()
}

// Offloads implements Tunnel.
func (t *tunnel) Offloads() pipe.Offloads {
	if t.single {
		return 0
	}
	o := pipe.OffloadUDPGSO | pipe.OffloadUDPGRO
	for _, pair := range []struct {
		device tuntap.Offloads
		child  pipe.Offloads
	}{
		{tuntap.OffloadChecksum, pipe.OffloadCsum},
		{tuntap.OffloadTSO4, pipe.OffloadTSO4},
		{tuntap.OffloadTSO6, pipe.OffloadTSO6},
		{tuntap.OffloadUSO4, pipe.OffloadUSO4},
		{tuntap.OffloadUSO6, pipe.OffloadUSO6},
	} {
		if t.device.Offloads()&pair.device != 0 {
			o |= pair.child
		}
	}
	return o
}

// Send implements Tunnel.
func (t *tunnel) Send(child uint64, m pipe.Message) error { return t.child.Send(child, m) }

// Apply implements Tunnel.
func (t *tunnel) Apply(s netcfg.Settings) error {
	if err := t.net.Apply(t.settings, s); err != nil {
		return err
	}
	t.settings = s
	return nil
}

// Restore implements Tunnel.
func (t *tunnel) Restore() error { return t.net.Restore(t.settings.Interface) }

// Connect implements Tunnel.
func (t *tunnel) Connect(local, remote netip.AddrPort, fragment bool) error {
	if err := t.socket.SetFragment(fragment); err != nil {
		return err
	}
	if t.socket.LocalPort() != 0 {
		local = netip.AddrPort{} // bound it stays, though the node may listen elsewhere by now
	}
	if t.socket.RemoteAddr() == remote && t.sourceHolds(remote.Addr()) {
		return nil
	}
	return t.socket.Connect(local, remote)
}

// sourceHolds reports whether the socket sends from the address that is the right one
// by now: it may have left this machine.
func (t *tunnel) sourceHolds(remote netip.Addr) bool {
	now, err := t.net.RouteSource(remote)
	source, sourceErr := t.socket.Source()
	return err != nil || sourceErr != nil || now == source
}

// Bind implements Tunnel.
func (t *tunnel) Bind(local netip.AddrPort) error { return t.socket.Bind(local) }

// Remote implements Tunnel.
func (t *tunnel) Remote() netip.AddrPort { return t.socket.RemoteAddr() }

// LocalPort implements Tunnel.
func (t *tunnel) LocalPort() uint16 { return t.socket.LocalPort() }

// SetCarrier implements Tunnel.
func (t *tunnel) SetCarrier(up bool) error { return t.device.SetCarrier(up) }

// Stalled implements Tunnel.
func (t *tunnel) Stalled() bool { return t.child.Stalled() }

// Close implements Tunnel.
func (t *tunnel) Close() {
	if t.stop != nil {
		t.stop()
		<-t.ended
	}
	_ = t.socket.Close()
	_ = t.unfurnish()
	_ = t.device.Close()
}
