package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"time"

	"tund/internal/config"
	"tund/internal/handover"
	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/parts"
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
	// Set brings addresses, routes, MTU and bridge as near to s as it can, and returns what is
	// missing. That is tried again from then on, and what someone else removes is put back.
	Set(s netcfg.Settings) parts.List
	// Missing is what the device lacks of its settings now.
	Missing() parts.List
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
	// Carrier is whether the device shows that there is a peer behind it.
	Carrier() bool
	// Number is that of the tunnel's descriptors, which outlive this process.
	Number() uint32
	// HandOver ends the child and returns what it knew; an error says that all of that is lost.
	// Packets wait in the kernel from then on. No other child is started before Resume.
	HandOver(ctx context.Context) (supervisor.State, error)
	// Resume starts a child again, after HandOver, and with its state where that is not nil. It
	// wipes it.
	Resume(state *supervisor.State)
	// Close ends the child, waits for it and frees everything. A device that the
	// administrator made stays, without what tund had put on it.
	Close()
}

// Opening is what an Opener is told.
type Opening struct {
	Log      *slog.Logger
	Node     keys.PublicKey // this node's
	Config   config.Peer
	Settings netcfg.Settings
	Events   chan<- supervisor.Event // where the child reports to

	// Inherited is what an earlier tund has left of the tunnel; nil: it is made anew. Where
	// it can't be used it is freed, and the Opener fails.
	Inherited *handover.Inherited
	// Resume is what the first child goes on from; nil: it begins without keys. The child's
	// supervisor wipes it.
	Resume *supervisor.State
}

// Opener makes a tunnel, or takes one over.
type Opener func(o Opening) (Tunnel, error)

// Shelf keeps descriptors beyond the end of this process. It is safe for concurrent use.
type Shelf interface {
	// KeepDevice takes a device, KeepSocket then its socket, under a number of their own.
	KeepDevice(device *os.File) (number uint32)
	KeepSocket(number uint32, socket *os.File)
	// Drop returns when no duplicate of either is left.
	Drop(number uint32)
}

// tunnel is the real Tunnel.
type tunnel struct {
	maker     *maker
	device    *tuntap.Device
	number    uint32 // on the shelf
	socket    *udp.Socket
	options   supervisor.Options // of each child's supervisor
	child     *supervisor.Supervisor
	settings  netcfg.Settings
	single    bool // packets move one by one
	configure atomic.Pointer[pipe.Configure]
	stop      context.CancelFunc
	ended     chan struct{} // closed when the supervisor has returned
}

// maker is what all tunnels of a node share.
type maker struct {
	net     *netcfg.Manager
	shelf   Shelf
	choices func() Choices
	command func(name string) *exec.Cmd
	gate    *supervisor.Gate
}

// startsAtOnce is how many first children may be starting for each processor. Now and then
// one waits for the other side of its pipe.
const startsAtOnce = 4

// runningLimit is how long a device may take to run after its carrier is on. On a quiet
// machine that is no time; it takes longer while others make many devices.
const runningLimit = time.Second

// Choices are what the configuration says of all children; each learns it when it starts.
type Choices struct {
	Engine       string // what it seals and opens with
	WholeSandbox bool   // it does not run with less
}

func (c Choices) environment() []string {
	env := []string{pipe.EngineVariable + "=" + c.Engine}
	if c.WholeSandbox {
		env = append(env, pipe.SandboxVariable+"="+pipe.SandboxRequired)
	}
	return env
}

// NewOpener returns the Opener of the real thing. command makes the process of a child; nil
// stands for this program in its other role.
func NewOpener(net *netcfg.Manager, shelf Shelf, choices func() Choices, command func(name string) *exec.Cmd) Opener {
	gate := supervisor.NewGate(startsAtOnce * runtime.NumCPU())
	return (&maker{net: net, shelf: shelf, choices: choices, command: command, gate: gate}).open
}

func (m *maker) open(o Opening) (Tunnel, error) {
	t := &tunnel{maker: m, single: o.Config.Offload == config.OffloadOff}
	acquire := t.build
	if o.Inherited != nil {
		acquire = t.adopt
	}
	if err := acquire(o); err != nil {
		return nil, err
	}
	t.options = supervisor.Options{
		Log:         o.Log,
		Name:        o.Config.Name,
		Device:      t.device.File(),
		Socket:      t.socket.File(),
		Command:     m.command,
		Gate:        m.gate,
		Environment: func() []string { return m.choices().environment() },
		Configure:   func() pipe.Configure { return *t.configure.Load() },
		Events:      o.Events,
	}
	t.prepareChild(o.Resume)
	return t, nil
}

// prepareChild makes a supervisor, which Configure or Resume starts.
func (t *tunnel) prepareChild(state *supervisor.State) {
	options := t.options
	options.Resume = state
	t.child = supervisor.New(options)
}

// build makes device and socket.
func (t *tunnel) build(o Opening) error {
	options, err := deviceOptions(o.Config)
	if err != nil {
		return err
	}
	options.Address = hardwareAddress(o.Node, o.Config.PublicKey)
	if t.device, err = tuntap.Open(options); err != nil {
		return err
	}
	t.number = t.maker.shelf.KeepDevice(t.device.File())
	if err := t.furnish(o.Settings); err != nil {
		t.maker.shelf.Drop(t.number)
		return errors.Join(err, t.device.Close())
	}
	t.maker.shelf.KeepSocket(t.number, t.socket.File())
	return nil
}

func deviceOptions(cfg config.Peer) (tuntap.Options, error) {
	mode, err := tuntap.ParseMode(cfg.Mode)
	return tuntap.Options{Name: cfg.Interface, Mode: mode, Queue: cfg.Queue, Offloads: deviceOffloads(cfg)}, err
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
	socket, err := udp.NewSocket()
	if err != nil {
		return fmt.Errorf("open udp socket: %w", err)
	}
	t.socket = socket
	t.Set(s)
	return nil
}

// unfurnish takes off the device what Set has put on it.
func (t *tunnel) unfurnish() {
	if !t.device.Created() { // else it goes as a whole
		t.maker.net.Set(netcfg.Settings{Interface: t.settings.Interface})
	}
	t.maker.net.Forget(t.settings.Interface)
}

// Configure implements Tunnel. The first call starts the child.
func (t *tunnel) Configure(c pipe.Configure) {
	if t.configure.Swap(&c) == nil {
		t.start()
	}
}

// start runs the supervisor.
func (t *tunnel) start() {
	ctx, stop := context.WithCancel(context.Background())
	t.stop, t.ended = stop, make(chan struct{})
	go func() { // ends when Close calls stop, or with HandOver
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

// Set implements Tunnel.
func (t *tunnel) Set(s netcfg.Settings) parts.List {
	t.settings = s
	return t.maker.net.Set(s)
}

// Missing implements Tunnel.
func (t *tunnel) Missing() parts.List { return t.maker.net.Missing(t.settings.Interface) }

// Connect implements Tunnel.
func (t *tunnel) Connect(local, remote netip.AddrPort, fragment bool) error {
	if err := t.socket.SetFragment(fragment); err != nil {
		return err
	}
	if t.socket.LocalPort() != 0 {
		local = netip.AddrPort{} // bound it stays, though the node may listen elsewhere by now
	}
	if t.socket.RemoteAddr() == remote && t.socket.Connected() && t.sourceHolds(remote.Addr()) {
		return nil
	}
	return t.socket.Connect(local, remote)
}

// sourceHolds reports whether the socket sends from the address that is the right one
// by now: it may have left this machine.
func (t *tunnel) sourceHolds(remote netip.Addr) bool {
	now, err := t.maker.net.RouteSource(remote)
	source, sourceErr := t.socket.Source()
	return err != nil || sourceErr != nil || now == source
}

// Bind implements Tunnel.
func (t *tunnel) Bind(local netip.AddrPort) error { return t.socket.Bind(local) }

// Remote implements Tunnel.
func (t *tunnel) Remote() netip.AddrPort { return t.socket.RemoteAddr() }

// LocalPort implements Tunnel.
func (t *tunnel) LocalPort() uint16 { return t.socket.LocalPort() }

// SetCarrier implements Tunnel. With a carrier the device carries packets when it
// returns.
func (t *tunnel) SetCarrier(up bool) error {
	if err := t.device.SetCarrier(up); err != nil || !up {
		return err
	}
	return t.maker.net.AwaitRunning(t.settings.Interface, runningLimit)
}

// Stalled implements Tunnel.
func (t *tunnel) Stalled() bool { return t.child.Stalled() }

// Carrier implements Tunnel.
func (t *tunnel) Carrier() bool {
	on, err := t.device.Carrier()
	return on && err == nil
}

// Number implements Tunnel.
func (t *tunnel) Number() uint32 { return t.number }

// Close implements Tunnel. What the shelf holds goes first: an interface ends with the
// last descriptor, and it counts as gone when Close returns.
func (t *tunnel) Close() {
	t.endChild()
	t.maker.shelf.Drop(t.number)
	_ = t.socket.Close()
	t.unfurnish()
	_ = t.device.Close()
}

func (t *tunnel) endChild() {
	if t.stop != nil {
		t.stop()
		<-t.ended
	}
}
