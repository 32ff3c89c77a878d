package daemon

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"tund/internal/ctl"
)

const (
	// controlPause is the time between two tries to open the control socket.
	controlPause = time.Second
	// controlLook is the time between two looks whether its file is still there.
	controlLook = 5 * time.Second
)

// passing is trouble of the machine that goes without a change of tund's configuration
// or rights: a file system that is full or read-only, want of memory or descriptors.
func passing(err error) bool {
	trouble := []error{
		syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO,
		syscall.ENOMEM, syscall.ENOBUFS, syscall.EMFILE, syscall.ENFILE,
	}
	return slices.ContainsFunc(trouble, func(t error) bool { return errors.Is(err, t) })
}

// openControl opens the control socket. In passing trouble it returns nil: tunnels that nobody can
// ask about are better than none, and serveControl tries again.
func (d *Daemon) openControl() (*ctl.Server, error) {
	server, err := ctl.Listen(ctl.Options{
		Log: d.log, Path: d.o.Socket, Socket: d.sockets.control(d.o.Socket), Version: d.o.Version, Backend: (*backend)(d),
	})
	if err != nil && passing(err) {
		d.controlLost(err)
		return nil, nil
	}
	return server, err
}

// controlLost says why there is no control socket, unless it has said the same before.
func (d *Daemon) controlLost(err error) {
	if err.Error() == d.controlSaid {
		return
	}
	d.controlSaid = err.Error()
	d.log.Error("control socket not open", "path", d.o.Socket, "err", err, "restart_in", controlPause)
	d.unreachable.Store(true)
}

// serveControl answers on the control socket until ctx ends, once it could be opened, and again where
// somebody has removed its file.
func (d *Daemon) serveControl(ctx context.Context, server *ctl.Server) error {
	retry := time.NewTicker(controlPause)
	defer retry.Stop()
	for {
		for server == nil {
			select {
			case <-retry.C:
			case <-ctx.Done():
				return nil
			}
			server = d.reopenControl()
		}
		if err := d.serveWhileFound(ctx, server); err != nil || ctx.Err() != nil {
			return err
		}
		d.controlLost(errSocketRemoved)
		d.wake()
		server = nil
	}
}

var errSocketRemoved = errors.New("somebody has removed it")

// serveWhileFound answers until ctx ends, or the file of the socket is gone.
func (d *Daemon) serveWhileFound(ctx context.Context, server *ctl.Server) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	served := make(chan error, 1)
	go func() { served <- server.Run(ctx) }() // ends with ctx
	look := time.NewTicker(controlLook)
	defer look.Stop()
	for {
		select {
		case err := <-served:
			return err
		case <-look.C:
			if server.Gone() {
				end()
			}
		}
	}
}

// reopenControl returns nil where there is none still.
func (d *Daemon) reopenControl() *ctl.Server {
	server, err := ctl.Listen(ctl.Options{Log: d.log, Path: d.o.Socket, Version: d.o.Version, Backend: (*backend)(d)})
	if err != nil {
		d.controlLost(err)
		return nil
	}
	d.log.Info("control socket open", "path", d.o.Socket)
	d.controlSaid = ""
	d.unreachable.Store(false)
	d.wake()
	return server
}

// wake has the loop look at what has changed.
func (d *Daemon) wake() {
	select {
	case d.changed <- struct{}{}:
	default: // it will
	}
}
