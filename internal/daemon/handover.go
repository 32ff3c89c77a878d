package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"tund/internal/ctl"
	"tund/internal/handover"
	"tund/internal/sdnotify"
)

// Times of a planned restart.
const (
	// exportLimit is more than a child has to hand over.
	exportLimit = 6 * time.Second
	// exportsAtOnce is how many children hand over at the same time: each has a few seconds
	// of its own, which it would not get beside a thousand others.
	exportsAtOnce = 64
	// tryLimit is how long the program may take to check the configuration.
	tryLimit = 10 * time.Second
)

// errAnnounced is why tund is not replaced when it is to stop.
var errAnnounced = errors.New("a stop was announced")

// StopKind implements ctl.Backend.
func (b *backend) StopKind(_ context.Context, kind ctl.StopKind) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopKind = kind
	return nil
}

// Restart implements ctl.Backend. It has the program check the configuration, which shows
// that it runs and would not refuse to start, while all goes on.
func (b *backend) Restart(ctx context.Context) (ctl.RestartBegun, func(), error) {
	d := (*Daemon)(b)
	r := ctl.RestartBegun{Version: d.o.Version, Instance: d.instance()}
	program, err := os.Executable()
	if err != nil {
		return r, nil, err
	}
	if err := try(ctx, program, d.o.Config); err != nil {
		return r, nil, ctl.Errorf(ctl.CodeFailed, "not restarted: %v", err)
	}
	d.mu.Lock()
	d.restartErr = ""
	d.mu.Unlock()
	return r, func() { d.askRestart(program) }, nil
}

// try runs `PROGRAM check CONFIG`.
func try(ctx context.Context, program, path string) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "check", path).CombinedOutput()
	if err != nil && len(out) > 0 {
		return errors.New(strings.TrimPrefix(strings.TrimSpace(string(out)), "tund: "))
	}
	return err
}

// askRestart tells the loop; a restart that is asked for twice happens once.
func (d *Daemon) askRestart(program string) {
	select {
	case d.restarts <- program:
	default:
	}
}

// leaves tells whether another tund is to take over when this one ends.
func (d *Daemon) leaves() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.notify.Keeps() && d.stopKind != ctl.KindStop
}

// leave hands everything over to the descriptor store. What can't be is lost: the next tund
// takes over devices and sockets alone.
func (d *Daemon) leave() {
	record, err := d.export()
	if err != nil {
		d.log.Error("state not handed over whole", "err", err)
	}
	defer record.Wipe()
	memory, err := record.Seal()
	if err == nil {
		err = d.deposit(memory)
	}
	if err != nil {
		d.log.Error("state not handed over", "err", err)
		return
	}
	d.log.Info("state handed over", "record", record.ID.String(), "count", len(record.Peers))
}

// deposit returns when the descriptor store, if there is one, has the record.
func (d *Daemon) deposit(memory *os.File) error {
	if !d.notify.Keeps() {
		return nil
	}
	if err := d.notify.Store(handover.RecordName, memory); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), exportLimit)
	defer cancel()
	return d.notify.Barrier(ctx)
}

// abandonBusy leaves peers that did not hand over to the end of this process: stopped in
// order, they would tell the other side and take the device away.
func (d *Daemon) abandonBusy() {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.members, func(_ string, m *member) bool { return m.busy })
}

// export ends all children and collects what they leave. The error says that a peer was busy;
// it goes on.
func (d *Daemon) export() (*handover.Record, error) {
	d.shelf.Settle() // while packets flow
	r := &handover.Record{ID: handover.NewID(), Version: d.o.Version, Resting: d.node.indexes.Resting()}
	r.Boot, _ = handover.Boot() // without it the record is refused, and that is said
	members := d.all()
	parts, failed := make([]*handover.Peer, len(members)), make([]error, len(members))
	places := make(chan struct{}, exportsAtOnce)
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			places <- struct{}{}
			parts[i], failed[i] = m.exported()
			<-places
		})
	}
	wg.Wait()
	for _, p := range parts {
		if p == nil {
			continue
		}
		r.Peers = append(r.Peers, *p)
		if p.Lost != "" {
			d.log.Warn("peer handed over without keys", "peer", p.Name, "reason", p.Lost)
		}
	}
	return r, errors.Join(failed...)
}

// exported ends the peer's child and returns what it leaves; nil: nothing.
func (m *member) exported() (*handover.Peer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), exportLimit)
	defer cancel()
	left, ok, err := m.HandOver(ctx)
	m.busy = err != nil
	if err != nil {
		return nil, fmt.Errorf("peer %s: hand over: %w", m.Name(), err)
	}
	if !ok {
		return nil, nil
	}
	return &left, nil
}

// replace puts the program anew in the place of this process. It returns only if that has
// failed; then all goes on as it was.
func (d *Daemon) replace(ctx context.Context, program string) {
	err := d.ending(ctx)
	if err == nil {
		d.log.Info("restarting", "path", program)
		var record *handover.Record
		if record, err = d.export(); err == nil {
			record, err = d.execute(ctx, program, record)
		}
		defer func() { d.takeBack(record) }()
	}
	d.log.Error("program not replaced", "path", program, "err", err)
	d.mu.Lock()
	d.restartErr = err.Error()
	d.mu.Unlock()
}

// ending returns an error if this process is to end: a signal, and what was announced for it, would be
// lost with it.
func (d *Daemon) ending(ctx context.Context) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.stopKind == ctl.KindStop {
		return errAnnounced
	}
	return ctx.Err()
}

// execute returns only with an error, and then the record again: there is one of it at any
// time, here or in the memory that the program finds. Should the program end before it has
// taken that, as by a signal that comes before it listens to any, the next one finds it in the store.
func (d *Daemon) execute(ctx context.Context, program string, record *handover.Record) (*handover.Record, error) {
	memory, err := record.Seal()
	if err != nil {
		return record, err
	}
	record.Wipe()
	d.report("descriptor store", d.deposit(memory))
	all := append(d.shelf.Descriptors(), sdnotify.Descriptor{Name: handover.RecordName, File: memory})
	all = append(all, d.sockets.descriptors()...)
	d.log.Info("state handed over", "record", record.ID.String(), "count", len(record.Peers))
	err = fmt.Errorf("execute %s: %w", program, d.bequeath(ctx, program, all))
	record, lost := handover.Take([]*os.File{memory}, record.Boot)
	return record, errors.Join(err, lost, d.notify.Unstore(handover.RecordName), memory.Close())
}

// bequeath executes the program with descriptors that it inherits. Nothing else is started
// meanwhile, as a check for another restart: it would inherit them, too.
func (d *Daemon) bequeath(ctx context.Context, program string, all []sdnotify.Descriptor) error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	variable, undo, err := sdnotify.Bequeath(all)
	if err != nil {
		return err
	}
	defer undo()
	if err := d.ending(ctx); err != nil {
		return err
	}
	return d.o.Execute(program, os.Args, append(os.Environ(), variable))
}

// takeBack lets the peers go on, with a new epoch where their part of the record is lost.
func (d *Daemon) takeBack(record *handover.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), exportLimit)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range d.all() {
		left := handover.Peer{Name: m.Name(), Lost: "the record is lost"}
		if found := record.Of(m.Name()); found != nil {
			left = *found
		}
		wg.Go(func() { m.TakeBack(ctx, left) })
	}
	wg.Wait()
}

// executeProgram is execve(2).
func executeProgram(path string, args, env []string) error { return syscall.Exec(path, args, env) }
