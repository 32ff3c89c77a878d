package tuntap

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// create makes a persistent device of which no descriptor is left, so that attach
// can take it with flags of its own. Until then nobody else may: the kernel lets any
// user attach to a device without an owner.
func create(o Options) error {
	if err := createByWater(o); err != nil {
		return explainCreate(err)
	}
	if err := prepare(o); err != nil {
		return errors.Join(err, remove(o.Name))
	}
	return nil
}

// prepare sets what must be set before the device runs.
func prepare(o Options) error {
	if err := setSuperPacket(o.Name, cmp.Or(o.SuperPacket, DefaultSuperPacket)); err != nil {
		return fmt.Errorf("bound super-packets: %w", err)
	}
	if o.Queue != 0 {
		if err := setQueue(o.Name, o.Queue); err != nil {
			return fmt.Errorf("set queue length: %w", err)
		}
	}
	if o.Address != nil && o.Mode == TAP {
		if err := setAddress(o.Name, o.Address); err != nil {
			return fmt.Errorf("set address %s: %w", o.Address, err)
		}
	}
	return nil
}

// setAddress marks the address as chosen: udev leaves it then.
func setAddress(name string, address net.HardwareAddr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetHardwareAddr(link, address)
}

// createByWater holds the fork lock exclusively, as water opens its descriptor
// without close-on-exec, and does not close it when a later step fails.
func createByWater(o Options) error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	made, err := water.New(water.Config{
		DeviceType: o.Mode.water(),
		PlatformSpecificParams: water.PlatformSpecificParams{
			Name:    o.Name,
			Persist: true,
			Permissions: &water.DevicePermissions{
				Owner: uint(os.Geteuid()),
				Group: uint(os.Getegid()),
			},
		},
	})
	if err != nil {
		closeLeaked()
		return err
	}
	return made.Close()
}

// closeLeaked closes the descriptors of /dev/net/tun that a child would inherit:
// all of ours have close-on-exec, so with the fork lock held they are water's.
func closeLeaked() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // without /proc the leak is bounded by the descriptor limit
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err == nil && inheritable(fd) && isClone(fd) {
			_ = unix.Close(fd) // nothing was written: there is no error to lose
		}
	}
}

func inheritable(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// isClone reports whether fd is an open /dev/net/tun: character device 10, 200.
func isClone(fd int) bool {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(10, 200)
}

// setQueue must be called before the device runs: lowering the length of a running
// queue frees packets that wait in it.
func setQueue(name string, packets int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetTxQLen(link, packets)
}

// ignoreAdvertisements keeps IPv6 router advertisements of the far end from giving the
// device addresses and a default route. Where that cannot be set, as without IPv6 or on
// a read-only /proc/sys, the device is made all the same.
func ignoreAdvertisements(name string) {
	f, err := os.OpenFile("/proc/sys/net/ipv6/conf/"+name+"/accept_ra", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	_, _ = f.WriteString("0")
	_ = f.Close()
}

// remove takes back a persistent device that could not be attached.
func remove(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); err == nil || absent || errors.Is(err, unix.ENODEV) {
		return nil // as when attach had cleared the persistence already
	}
	return fmt.Errorf("remove it again: %w", err)
}

// setInterface binds an open /dev/net/tun to the named device.
func setInterface(fd int, name string, flags uint16) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(flags)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
}

func explainCreate(err error) error {
	if _, isIoctl := errors.AsType[*os.SyscallError](err); !isIoctl {
		return explainOpen(err)
	}
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: making a device needs CAP_NET_ADMIN", ErrPermission)
	case errors.Is(err, unix.EBUSY):
		return ErrBusy
	}
	return fmt.Errorf("make the device: %w", err)
}

func explainOpen(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return ErrUnavailable
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: this process may not open %s", ErrPermission, clonePath)
	}
	return fmt.Errorf("open %s: %w", clonePath, err)
}

func explainAttach(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return ErrBusy
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: the device belongs to another user, and CAP_NET_ADMIN is missing", ErrPermission)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: it is of the other kind or was made with multi_queue", ErrMode)
	}
	return fmt.Errorf("attach: %w", err)
}
