// Package daemon is the composition root of the parent process: it loads the
// configuration, opens the listeners and the control socket, runs a peer.Peer for
// each configured peer, applies reloads, and ends everything in order.
//
// Run is one loop that owns the set of peers; it is the only one to start and stop
// them. Requests of the control socket read that set under a lock and talk to the
// peers directly; a reload is handed to the loop.
package daemon

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/handover"
	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/peer"
	"tund/internal/sdnotify"
	"tund/internal/session"
	"tund/internal/watch"
)

// errStopping is the reason that peers are told when tund ends.
var errStopping = errors.New("tund is stopping")

// Options is what Run needs.
type Options struct {
	Log     *slog.Logger
	Config  string           // path of the configuration file
	Socket  string           // path of the control socket
	Version string           // of the program, for status
	Hangup  <-chan os.Signal // SIGHUP: load the configuration again
	// Inherited are the descriptors that this process was started with.
	Inherited []sdnotify.Descriptor
	// Generation calls cloned when this virtual machine was cloned or set back, until ctx is done;
	// nil: the kernel's events.
	Generation func(ctx context.Context, log *slog.Logger, cloned func()) error
	// Command makes the process of a data child; nil: this program in its other role.
	Command func(name string) *exec.Cmd
	// Execute replaces this process by a program, and returns only an error; nil: execve(2).
	Execute func(path string, args, env []string) error
}

// Daemon is a running tund.
type Daemon struct {
	o        Options
	log      *slog.Logger
	started  time.Time
	node     *node
	gates    *gates
	overlaps *overlaps
	sockets  *sockets
	watcher  *watch.Watcher
	notify   sdnotify.Notifier
	dog      *watchdog
	changed  chan struct{} // a peer's state has; room for one word
	arrived  chan struct{} // an address or a link has; room for one word
	shown    string        // the status line that the service manager has
	open     peer.Opener
	reloads  chan reloadRequest
	restarts chan string // the program that shall take the place of this one; room for one
	events   chan watch.Event
	shelf    *handover.Shelf
	records  []*os.File     // what may be a record, until it is taken
	wg       sync.WaitGroup // what runs beside the peers
	tried    [32]byte       // digest of the configuration that was last applied, or tried

	unreachable atomic.Bool // there is no control socket
	controlSaid string      // why; for openControl, and then for serveControl

	mu         sync.RWMutex // guards what follows; written by the loop only, but for stopKind
	members    map[string]*member
	loadedAt   time.Time
	loadErr    string
	settling   settling     // the change of the configuration that is not loaded yet
	stopKind   ctl.StopKind // what the SIGTERM to come is for; empty: nobody has said
	restartErr string       // why the last restart that was asked for has failed
}

// member is one peer and its goroutine.
type member struct {
	*peer.Peer
	stop  context.CancelCauseFunc
	ended chan struct{}
	busy  bool // it could not hand over
}

// reloadRequest asks the loop for a reload.
type reloadRequest struct {
	by    asker
	reply chan<- ctl.ReloadResult
}

// Run loads the configuration, brings everything up and keeps it so until ctx ends.
// It returns an error only where tund could not start; a peer that can't be reached
// is a state, not an error.
func Run(ctx context.Context, o Options) error {
	cfg, err := config.Load(o.Config)
	if err != nil {
		return err
	}
	if o.Execute == nil {
		o.Execute = executeProgram
	}
	d := &Daemon{
		o: o, log: o.Log, started: time.Now(), loadedAt: time.Now(),
		reloads:  make(chan reloadRequest),
		restarts: make(chan string, 1),
		events:   make(chan watch.Event),
		changed:  make(chan struct{}, 1),
		arrived:  make(chan struct{}, 1),
		members:  make(map[string]*member),
	}
	d.sockets, d.o.Inherited = takeSockets(o.Log, o.Inherited)
	server, err := d.openControl()
	if err != nil {
		return err
	}
	if server != nil {
		defer func() { _ = server.Close() }()
	}
	if err := d.prepare(cfg); err != nil {
		return err
	}
	inner, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer d.wg.Wait()
	defer stop(errStopping)
	d.gates.set(inner, cfg.Node.Listen)
	d.sockets.reportUnused()
	defer func() { d.gates.closeAll(d.gates.open) }()
	return d.run(ctx, inner, server)
}

// prepare makes what all peers share.
func (d *Daemon) prepare(cfg *config.Config) error {
	net, err := netcfg.New()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	held, err := openHolds(d.o.Socket + ".held")
	if err != nil {
		return err
	}
	d.node, d.tried = newNode(cfg, net, held), cfg.Digest
	d.shelve(d.o.Inherited)
	d.open = peer.NewOpener(net, d.shelf, d.node.choices, d.o.Command)
	d.overlaps = newOverlaps()
	again := time.NewTimer(0)
	again.Stop()
	d.gates = &gates{log: d.log, inherited: d.sockets, publish: d.node.setAbsent, again: again, options: session.ListenerOptions{
		Log:       d.log,
		Identity:  d.node.Identity(),
		Admission: session.NewAdmission(),
		Known:     d.known,
		Preferred: d.node.expects,
		Accepted:  d.accepted,
	}}
	if d.dog, err = newWatchdog(d.log, d.notify, &d.wg); err != nil {
		d.report("watchdog", err)
	}
	d.watcher = watch.New(watch.Options{Log: d.log, Events: d.events, Hangup: d.o.Hangup})
	d.watcher.SetFiles(cfg.Files)
	return nil
}

// run is the loop. inner lives until everything has been stopped in order.
func (d *Daemon) run(ctx, inner context.Context, server *ctl.Server) error {
	left := d.takeOver(d.node.config())
	for _, p := range d.node.config().Peers {
		d.start(inner, p, left[p.Name])
	}
	d.findOverlaps()
	stopHelpers := d.help(inner, server)
	defer stopHelpers()
	d.log.Info("started", "version", d.o.Version, "key", d.node.Identity().Public().String(), "path", d.o.Config)
	d.report("readiness", d.notify.Ready())
	due, stopWatchdog := d.dog.ticks()
	defer stopWatchdog()
	defer d.settled()
	for {
		d.showStatus()
		select {
		case <-ctx.Done():
			d.log.Info("stopping")
			d.report("readiness", d.notify.Stopping())
			if d.leaves() {
				stopHelpers()
				d.gates.closeAll(d.gates.open)
				d.leave()
				d.abandonBusy()
			}
			d.stopAll(errStopping)
			return nil
		case program := <-d.restarts:
			d.replace(ctx, program)
		case r := <-d.reloads:
			r.reply <- d.reload(inner, r.by)
		case e := <-d.events:
			d.onChange(inner, time.Now(), e)
		case now := <-d.settling.due():
			d.settle(inner, now)
		case <-due:
			d.petWatchdog(inner)
		case <-d.arrived:
			d.gates.sign()
			d.overlaps.soon()
		case <-d.overlaps.look.C:
			d.findOverlaps()
		case <-d.gates.again.C:
			d.gates.retry(inner)
		case <-d.changed:
		}
	}
}

// help starts what runs beside the peers. The function returned ends it and waits for it.
func (d *Daemon) help(ctx context.Context, server *ctl.Server) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.report("control socket", d.serveControl(ctx, server)) })
	wg.Go(func() { d.node.holds.run(ctx, d.log) })
	wg.Go(func() { d.report("file watcher", d.watcher.Run(ctx)) })
	wg.Go(func() {
		d.report("netlink watcher", d.node.net.Watch(ctx, netcfg.Observer{Changed: d.noticed, Arrived: func() { poke(d.arrived) }}))
	})
	wg.Go(func() { d.watchGeneration(ctx) })
	return func() { cancel(); wg.Wait() }
}

// report logs what a helper has failed with.
func (d *Daemon) report(name string, err error) {
	if err != nil {
		d.log.Error("helper failed", "from", name, "err", err)
	}
}

// start runs a peer. It returns when its tunnel is open, or could not be opened.
// left is what an earlier tund has left of that; nil: nothing.
func (d *Daemon) start(ctx context.Context, cfg config.Peer, left *handover.Inherited) *member {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	m := &member{
		Peer:  peer.New(peer.Options{Log: d.log, Config: cfg, Node: d.node, Open: d.open, Changed: d.changed, Inherited: left}),
		stop:  stop,
		ended: make(chan struct{}),
	}
	d.mu.Lock()
	d.members[cfg.Name] = m
	d.mu.Unlock()
	go func() { // ends when stopMembers calls stop
		defer close(m.ended)
		_ = m.Run(ctx)
	}()
	return m
}

// stopMembers ends peers at the same time and waits for them.
func (d *Daemon) stopMembers(reason error, members ...*member) {
	for _, m := range members {
		m.stop(reason)
	}
	for _, m := range members {
		<-m.ended
		d.mu.Lock()
		if d.members[m.Name()] == m {
			delete(d.members, m.Name())
		}
		d.mu.Unlock()
	}
}

func (d *Daemon) stopAll(reason error) { d.stopMembers(reason, d.all()...) }

// all returns the peers that run, in no order.
func (d *Daemon) all() []*member {
	d.mu.RLock()
	defer d.mu.RUnlock()
	all := make([]*member, 0, len(d.members))
	for _, m := range d.members {
		all = append(all, m)
	}
	return all
}

func (d *Daemon) byName(name string) *member {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.members[name]
}

// peerOf returns the configured peer of a public key.
func (d *Daemon) peerOf(key keys.PublicKey) (config.Peer, bool) {
	for _, p := range d.node.config().Peers {
		if p.PublicKey == key {
			return p, true
		}
	}
	return config.Peer{}, false
}

// known tells the listener which identities may have a session. It takes the same time for each.
func (d *Daemon) known(key keys.PublicKey) bool {
	found := 0
	for _, p := range d.node.config().Peers {
		found |= subtle.ConstantTimeCompare(p.PublicKey[:], key[:])
	}
	return found == 1
}

// accepted hands a connection to its peer.
func (d *Daemon) accepted(conn *session.Conn) {
	cfg, ok := d.peerOf(conn.Peer())
	m := d.byName(cfg.Name)
	if !ok || m == nil {
		_ = conn.Close()
		return
	}
	d.wg.Go(func() { m.Accept(context.Background(), conn) }) // ends when the peer has taken it, or has ended
}

// noticed tells a peer that something has changed on its interface.
func (d *Daemon) noticed(iface string, mended bool) {
	for _, p := range d.node.config().Peers {
		if m := d.byName(p.Name); m != nil && p.Interface == iface {
			_ = m.Noticed(context.Background(), mended)
		}
	}
}

// poke gives a word to c, if it has room.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
