package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// doorBuffer is small: nothing is ever queued at the door while its filter drops
// everything. The kernel raises it to its own minimum.
const doorBuffer = 4096

// From linux/sock_diag.h: the values that SO_MEMINFO returns, and which of them counts
// dropped datagrams.
const (
	meminfoValues = 9
	meminfoDrops  = 8
)

// A Door holds the shared UDP port open for datagrams of no known peer, which the kernel
// drops and counts. It is safe for concurrent use.
type Door struct {
	file *os.File
	addr netip.AddrPort

	mu    sync.Mutex // guards what follows
	last  uint32
	total uint64
}

// ListenDoor binds addr. It must be called before any peer's Socket is bound to the port.
func ListenDoor(addr netip.AddrPort) (*Door, error) {
	fd, family, err := open()
	if err != nil {
		return nil, fmt.Errorf("listen udp %s: %w", addr, err)
	}
	d := &Door{file: os.NewFile(uintptr(fd), "door")}
	if err := d.bind(fd, family, addr); err != nil {
		return nil, errors.Join(fmt.Errorf("listen udp %s: %w", addr, err), d.Close())
	}
	return d, nil
}

func (d *Door) bind(fd, family int, addr netip.AddrPort) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, doorBuffer); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	if err := bindTo(fd, family, addr); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	var err error
	d.addr, err = localAddr(fd)
	return err
}

// Addr is the bound address, with the port that the kernel chose where 0 was asked for.
func (d *Door) Addr() netip.AddrPort { return d.addr }

// Drops is how many strangers' datagrams the kernel has dropped since ListenDoor. The
// kernel counts in 32 bits: asked at least once in so many datagrams, Drops misses none.
func (d *Door) Drops() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var info [meminfoValues]uint32
	if err := control(d.file, func(fd int) error { return meminfo(fd, &info) }); err != nil {
		return d.total
	}
	now := info[meminfoDrops]
	d.total += uint64(now - d.last)
	d.last = now
	return d.total
}

func meminfo(fd int, info *[meminfoValues]uint32) error {
	size := uint32(unsafe.Sizeof(*info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Close gives the port back. Sockets of peers on it stay as they are.
func (d *Door) Close() error { return d.file.Close() }
