package tuntap

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrQueue means that an adopted device has a queue of another length than is wanted:
// it can't be changed without losing what waits in it.
var ErrQueue = errors.New("the device has a queue of another length")

// Identify tells which device an open descriptor holds. It fails for a descriptor of
// something else, and for a device that was deleted.
func Identify(file *os.File) (name string, mode Mode, err error) {
	name, flags, err := interrogate(file)
	if err != nil {
		return "", 0, fmt.Errorf("identify device: %w", err)
	}
	if flags&unix.IFF_TAP != 0 {
		return name, TAP, nil
	}
	return name, TUN, nil
}

// Adopt takes over the device that an open descriptor of [Device.File] holds, as
// an earlier process has left it: link, carrier, addresses and what waits in its queue
// stay. The offloads are set anew. The file belongs to the Device, unless an error is returned.
func Adopt(file *os.File, o Options) (*Device, error) {
	d := &Device{file: file, name: o.Name, mode: o.Mode}
	if err := d.adopt(o); err != nil {
		return nil, fmt.Errorf("adopt %s %s: %w", o.Mode, o.Name, err)
	}
	return d, nil
}

func (d *Device) adopt(o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	name, flags, err := interrogate(d.file)
	switch {
	case err != nil:
		return err
	case name != o.Name:
		return fmt.Errorf("%w: it is called %s", ErrForeign, name)
	case flags&(unix.IFF_TUN|unix.IFF_TAP) != o.Mode.flag():
		return ErrMode
	case flags&(unix.IFF_NO_PI|unix.IFF_VNET_HDR) != unix.IFF_NO_PI|unix.IFF_VNET_HDR:
		return fmt.Errorf("%w: its packets have other headers", ErrForeign)
	}
	d.created = flags&unix.IFF_PERSIST == 0
	if err := d.checkQueue(o.Queue); err != nil {
		return err
	}
	return d.control(func(fd int) error { return d.equip(fd, o.Offloads) })
}

// checkQueue compares the queue of a device that was made by an earlier process; that of
// another's is his.
func (d *Device) checkQueue(want int) error {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return fmt.Errorf("look up the interface: %w", err)
	}
	if has := link.Attrs().TxQLen; d.created && want != 0 && has != want {
		return fmt.Errorf("%w: %d, not %d", ErrQueue, has, want)
	}
	return nil
}

// Carrier reports whether the device has a carrier, as SetCarrier was last told. It is
// false while the link is down.
func (d *Device) Carrier() (bool, error) {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return false, fmt.Errorf("read carrier of %s: %w", d.name, err)
	}
	return link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0, nil
}

// interrogate asks the kernel for the name and the flags of an open device.
func interrogate(file *os.File) (name string, flags uint16, err error) {
	req, err := unix.NewIfreq("any") // the kernel fills it
	if err != nil {
		return "", 0, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return "", 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = gone(unix.IoctlIfreq(int(fd), unix.TUNGETIFF, req)) })
	return req.Name(), req.Uint16(), errors.Join(err, failed)
}
