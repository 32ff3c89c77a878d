package peer

import (
	"context"
	"errors"
	"fmt"

	"tund/internal/netcfg"
	"tund/internal/supervisor"
	"tund/internal/tuntap"
	"tund/internal/udp"
)

// adopt takes over what an earlier tund has left, as it is. What can't be used is freed
// as a whole, so that it can be made anew.
func (t *tunnel) adopt(o Opening) error {
	in := o.Inherited
	t.number = in.Number
	err := t.adoptDevice(o)
	if err == nil {
		return nil
	}
	o.Resume.Wipe()
	t.maker.shelf.Drop(in.Number)
	if t.socket != nil {
		in.Socket = t.socket.File()
	}
	return errors.Join(err, in.Close())
}

func (t *tunnel) adoptDevice(o Opening) error {
	options, err := deviceOptions(o.Config)
	if err != nil {
		return err
	}
	if t.device, err = tuntap.Adopt(o.Inherited.Device, options); err != nil {
		return err
	}
	if err := t.adoptSocket(o); err != nil {
		return err
	}
	old := netcfg.Settings{Interface: o.Settings.Interface}
	if left := o.Inherited.Peer; left != nil && left.Settings.Interface == old.Interface {
		old = left.Settings
	}
	t.maker.net.Inherit(old)
	t.Set(o.Settings)
	return nil
}

// adoptSocket makes a new one where there is none, or it can't be used: the device is
// worth more.
func (t *tunnel) adoptSocket(o Opening) error {
	if file := o.Inherited.Socket; file != nil {
		socket, err := udp.Adopt(file)
		if err == nil {
			t.socket = socket
			return nil
		}
		o.Log.Warn("data socket not taken over", "err", errors.Join(err, file.Close()))
		o.Inherited.Socket = nil
	}
	socket, err := udp.NewSocket()
	if err != nil {
		return fmt.Errorf("open udp socket: %w", err)
	}
	t.socket = socket
	t.maker.shelf.KeepSocket(t.number, socket.File())
	return nil
}

// HandOver implements Tunnel.
func (t *tunnel) HandOver(ctx context.Context) (supervisor.State, error) {
	state, err := t.child.HandOver(ctx)
	t.endChild()
	return state, err
}

// Resume implements Tunnel.
func (t *tunnel) Resume(state *supervisor.State) {
	t.prepareChild(state)
	t.start()
}
