package tuntap

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clonePath is the file that each TUN or TAP descriptor comes from.
const clonePath = "/dev/net/tun"

// The causes for which Open may fail and that a caller may test for.
var (
	// ErrUnavailable means that this machine or container has no /dev/net/tun.
	ErrUnavailable = errors.New("/dev/net/tun is missing: load the kernel module tun, or give the container the device")
	// ErrPermission means that the process lacks CAP_NET_ADMIN, may not open
	// /dev/net/tun, or the device belongs to another user.
	ErrPermission = errors.New("not permitted")
	// ErrForeign means that the name belongs to an interface of another kind.
	ErrForeign = errors.New("the name is in use by an interface that is neither tun nor tap")
	// ErrMode means that the device exists in the other mode.
	ErrMode = errors.New("the device exists in another mode")
	// ErrBusy means that another process holds the device.
	ErrBusy = errors.New("the device is busy: another process holds it")
)

// Options describe the device to open.
type Options struct {
	Name  string // of the interface, 1 to 15 bytes
	Mode  Mode
	Queue int // packets that may wait for the reader; used only if the device is made; 0: the kernel's default
	// Address is that of a TAP, used only if the device is made; nil: the kernel makes one up.
	Address net.HardwareAddr

	Offloads    Offloads // that are wanted; as many of them as the kernel has come into force
	SuperPacket int      // bytes of the largest; used only if the device is made; 0: DefaultSuperPacket
}

// Device is the parent's hold on a device. As long as it, or a duplicate of its
// descriptor, is open, the interface exists. Its methods are safe for concurrent use.
type Device struct {
	file     *os.File
	name     string
	mode     Mode
	index    int
	created  bool
	offloads Offloads
	reason   string // why offloads are missing
}

// Open makes the device, or attaches to it if an administrator has made it before.
// A device made here vanishes with its last descriptor; one that was there keeps its
// persistence and its queue length. Open leaves the link as it is (a new one: down).
//
// The network namespace is that of the calling thread.
func Open(o Options) (*Device, error) {
	d, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("open %s %s: %w", o.Mode, o.Name, err)
	}
	return d, nil
}

// open is patient with a busy device: a process that was forked while the descriptor
// was open holds a duplicate until its exec, so a device just closed here may still
// be held for some milliseconds, by nobody who wants it.
func open(o Options) (*Device, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	const attempts, pause = 10, 10 * time.Millisecond
	for range attempts - 1 {
		d, err := openOnce(o)
		if !errors.Is(err, ErrBusy) {
			return d, err
		}
		<-time.After(pause)
	}
	return openOnce(o)
}

func openOnce(o Options) (*Device, error) {
	index, err := inspect(o)
	if err != nil {
		return nil, err
	}
	if index == 0 {
		return openNew(o)
	}
	d, err := attach(o, false)
	if err == nil && d.index != index {
		// It vanished, and the kernel made another: not with our options.
		return nil, errors.Join(ErrBusy, d.Close())
	}
	return d, err
}

func openNew(o Options) (*Device, error) {
	if err := create(o); err != nil {
		return nil, err
	}
	ignoreAdvertisements(o.Name)
	d, err := attach(o, true)
	if err != nil {
		return nil, errors.Join(err, remove(o.Name))
	}
	return d, nil
}

// validate keeps out the names that the kernel refuses, cuts, or takes for patterns.
func (o Options) validate() error {
	if !o.Mode.valid() {
		return errors.New("neither tun nor tap")
	}
	if len(o.Name) == 0 || len(o.Name) >= unix.IFNAMSIZ {
		return fmt.Errorf("a name has 1 to %d bytes", unix.IFNAMSIZ-1)
	}
	if o.Name == "." || o.Name == ".." {
		return errors.New("the name is reserved")
	}
	for _, c := range []byte(o.Name) {
		if c <= ' ' || c >= 0x7f || c == '/' || c == ':' || c == '%' {
			return fmt.Errorf("the name holds the character %q", c)
		}
	}
	return nil
}

// inspect returns the index of the device, 0 if there is none. It refuses an interface
// of another kind or mode, which would otherwise show as a bare EINVAL or EBUSY.
func inspect(o Options) (index int, err error) {
	link, err := netlink.LinkByName(o.Name)
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up the interface: %w", err)
	}
	tuntap, ok := link.(*netlink.Tuntap)
	if !ok {
		return 0, fmt.Errorf("%w (%s)", ErrForeign, link.Type())
	}
	if m := Mode(tuntap.Mode); m.valid() && m != o.Mode {
		return 0, fmt.Errorf("%w: %s", ErrMode, m)
	}
	return link.Attrs().Index, nil
}

// attach opens the device with virtio headers. The kernel keeps flags, header size
// and offloads with a persistent device, so each is set even where it is the default.
func attach(o Options, created bool) (*Device, error) {
	// Blocking, and so unknown to the runtime's poller, which would wake the
	// parent for each packet that a child is to read.
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, explainOpen(err)
	}
	d := &Device{file: os.NewFile(uintptr(fd), clonePath), name: o.Name, mode: o.Mode, created: created}
	if err := d.configure(fd, o.Offloads); err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d, nil
}

func (d *Device) configure(fd int, wanted Offloads) error {
	if err := setInterface(fd, d.name, d.mode.flag()|unix.IFF_NO_PI|unix.IFF_VNET_HDR); err != nil {
		return explainAttach(err)
	}
	if err := d.equip(fd, wanted); err != nil {
		return err
	}
	if !d.created {
		return nil
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 0); err != nil {
		return fmt.Errorf("clear persistence: %w", err)
	}
	return nil
}

// equip sets what each process sets anew, and notes the interface's number.
func (d *Device) equip(fd int, wanted Offloads) error {
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderSize); err != nil {
		return fmt.Errorf("set header size: %w", err)
	}
	var err error
	if d.offloads, err = setOffloads(fd, preferences(wanted)...); err != nil {
		return fmt.Errorf("set offloads: %w", err)
	}
	d.reason = shortfall(wanted, d.offloads)
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return fmt.Errorf("look up the interface: %w", err)
	}
	d.index = link.Attrs().Index
	return nil
}

// File returns the descriptor, to be inherited by a child. It remains the Device's:
// the caller must not close it.
func (d *Device) File() *os.File { return d.file }

// Name returns the name of the interface.
func (d *Device) Name() string { return d.name }

// Mode returns what the device carries.
func (d *Device) Mode() Mode { return d.mode }

// Index returns the interface's number. The kernel counts on for each new interface,
// so it tells a device from a later one of the same name.
func (d *Device) Index() int { return d.index }

// Created reports whether tund made the device, so that it ends with its last descriptor.
func (d *Device) Created() bool { return d.created }

// Offloads returns the offloads in force.
func (d *Device) Offloads() Offloads { return d.offloads }

// OffloadReason says why some offloads are not in force; it is empty if all are.
func (d *Device) OffloadReason() string { return d.reason }

// SetCarrier tells the kernel whether something answers at the far end. Without
// carrier the addresses stay and the routes are marked linkdown.
func (d *Device) SetCarrier(on bool) error {
	value := 0
	if on {
		value = 1
	}
	err := d.control(func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TUNSETCARRIER, value) })
	if err != nil {
		return fmt.Errorf("set carrier of %s: %w", d.name, err)
	}
	return nil
}

// control runs f on the descriptor, which stays open meanwhile.
func (d *Device) control(f func(fd int) error) error {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return gone(inner)
}

// Close gives up this hold on the device.
func (d *Device) Close() error { return d.file.Close() }
