package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"tund/internal/config"
	"tund/internal/watch"
)

// When a changed file is loaded without a command. A file that is valid may still be
// half of what somebody is writing, so a change has to settle first.
const (
	// calm is how long the files must have been left alone before a change that loses
	// peers or keys is loaded: its writer may have closed the file and come back, or died.
	calm = 10 * time.Second
	// writerLook is how often a file that somebody has open for writing is looked at.
	writerLook = 500 * time.Millisecond
)

// settling is a changed configuration that is not loaded yet. The zero value is none.
type settling struct {
	path    string    // of the first change
	began   time.Time // when that was
	changed time.Time // when the last one was
	waits   string    // why it is not loaded
	logged  bool      // that it waits
	next    *time.Timer
}

// due is when to look again.
func (s *settling) due() <-chan time.Time {
	if s.next == nil {
		return nil
	}
	return s.next.C
}

// note takes up a change.
func (s *settling) note(now time.Time, path string) {
	if s.changed.IsZero() {
		s.path, s.began = path, now
	}
	s.changed = now
}

func (s *settling) stop() {
	if s.next != nil {
		s.next.Stop()
	}
}

// onChange reloads where SIGHUP has come, and where a file has changed and that has settled.
func (d *Daemon) onChange(ctx context.Context, now time.Time, e watch.Event) {
	switch {
	case e.Reason != watch.File:
		d.reload(ctx, bySignal())
	case d.node.config().Node.Reload == config.ReloadManual:
		d.log.Info("configuration changed on disk", "path", e.Path, "reason", "reload is manual: tunctl reload applies it")
	default:
		d.settling.note(now, e.Path)
		d.settle(ctx, now)
	}
}

// settle loads a changed configuration, unless it may be half of what somebody writes:
// while a process has one of the files open for writing, and until the files have been
// calm where something would be lost. A command and SIGHUP do not come here: they load at once.
func (d *Daemon) settle(ctx context.Context, now time.Time) {
	before := d.watcher.Look()
	if before.Writer != "" {
		d.waitForWriter(now, before.Writer)
		return
	}
	cfg, err := config.Load(d.o.Config)
	files := filesOf(cfg, err)
	after := watch.TakeLook(files)
	path, changed := before.Changed(after)
	rest := calm - now.Sub(d.settling.changed)
	lost := ""
	if err == nil {
		lost = config.Lost(d.node.config(), cfg)
	}
	switch {
	case after.Writer != "":
		d.waitForWriter(now, after.Writer)
	case changed:
		d.wait(now, writerLook, path+" is changing")
	case lost != "" && rest > 0:
		d.wait(now, rest, "it loses "+lost+", and may not be complete")
	default:
		d.inForce(ctx, cfg, err, byFile())
		return
	}
	if cfg != nil {
		cfg.Wipe()
	}
	d.watcher.AddFiles(files)
}

// filesOf returns what Load has looked for.
func filesOf(cfg *config.Config, err error) []string {
	if invalid, ok := errors.AsType[*config.Errors](err); ok {
		return slices.Clone(invalid.Files)
	}
	if cfg != nil {
		return slices.Clone(cfg.Files)
	}
	return nil
}

// waitForWriter puts a change off while somebody has a file open, which is no calm.
func (d *Daemon) waitForWriter(now time.Time, file string) {
	d.settling.changed = now
	d.wait(now, writerLook, file+" is open for writing")
}

// wait puts a change off, and says why where that takes long.
func (d *Daemon) wait(now time.Time, again time.Duration, why string) {
	s := &d.settling
	s.stop()
	s.next = time.NewTimer(again)
	if !s.logged && (again > writerLook || now.Sub(s.began) >= calm) {
		s.logged = true
		d.log.Warn("configuration change waits", "path", s.path, "reason", why)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.waits = why
}

// settled forgets the change that waits: the files have been loaded as they are.
func (d *Daemon) settled() {
	d.settling.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settling = settling{}
}

// waitsLocked says why a changed configuration is not loaded yet; "": there is none.
func (d *Daemon) waitsLocked() string {
	if d.settling.waits == "" {
		return ""
	}
	return "the files have changed: " + d.settling.waits + "; tunctl reload loads it as it is"
}
