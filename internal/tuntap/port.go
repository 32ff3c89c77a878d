package tuntap

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/await"
)

// HeaderSize is the length of the virtio-net header (struct virtio_net_hdr) in front of
// every packet, as TUNSETVNETHDRSZ sets it. Package segment knows what is in it.
const HeaderSize = 10

// The conditions that the packet loops tell apart. Those that speak of a dropped
// packet concern that packet alone.
var (
	ErrWouldBlock = errors.New("no packet waits")
	ErrDown       = errors.New("packet dropped: the interface is down")
	ErrRefused    = errors.New("packet dropped: the kernel refuses its form")
	ErrMalformed  = errors.New("packet dropped: it has no whole header")
	ErrTooLong    = errors.New("packet dropped: it is longer than the buffer")
	ErrGone       = errors.New("the interface was removed")
	ErrStopped    = errors.New("stopped")
)

// Port is the child's end of a device. One goroutine may call Read and Wait while
// another calls Write. No method allocates, unless the kernel answers with an
// error that is not one of this package.
type Port struct {
	fd   int
	mode Mode

	waiter  await.Waiter
	poll    [2]unix.PollFd
	in      unix.Iovec // of a read; a field, as a local would escape to the heap
	noFlag  bool       // the kernel does not know RWF_NOWAIT for devices: poll first
	noFlagP [1]unix.PollFd
}

// FromFD wraps a descriptor that comes from [Device.File], possibly through an exec,
// and checks that it is one. The Port relies on no flag of the descriptor, such as
// O_NONBLOCK, as all processes that hold a duplicate share them.
func FromFD(fd int, mode Mode) (*Port, error) {
	if err := checkFD(fd, mode); err != nil {
		return nil, fmt.Errorf("device descriptor %d: %w", fd, err)
	}
	return &Port{fd: fd, mode: mode}, nil
}

func checkFD(fd int, mode Mode) error {
	req, err := unix.NewIfreq("any") // the kernel fills it
	if err != nil {
		return err
	}
	if err := gone(unix.IoctlIfreq(fd, unix.TUNGETIFF, req)); err != nil {
		return err
	}
	want := mode.flag() | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if got := req.Uint16() & (unix.IFF_TUN | unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR); got != want {
		return fmt.Errorf("flags %#x instead of %#x", got, want)
	}
	return nil
}

// FD returns the descriptor.
func (p *Port) FD() int { return p.fd }

// Mode returns what the device carries.
func (p *Port) Mode() Mode { return p.mode }

// Read copies the next packet or frame, behind its header of HeaderSize bytes, into b
// and returns the length of both. It takes a b that is longer by a byte: a packet that
// fills it may have been cut off, and is ErrTooLong. It never blocks: ErrWouldBlock says that none waits.
// After ErrMalformed or ErrTooLong the caller reads on; ErrGone is final. The Port
// refers to b until the next Read.
func (p *Port) Read(b []byte) (int, error) {
	if len(b) <= HeaderSize {
		return 0, ErrTooLong
	}
	p.in.Base = &b[0]
	p.in.SetLen(len(b))
	n, errno := p.readv()
	switch {
	case errno != 0:
		return 0, readError(errno)
	case n <= HeaderSize:
		return 0, ErrMalformed
	case n == len(b):
		return 0, ErrTooLong
	}
	return n, nil
}

// readv reads without blocking. Kernels before 6.4 do not take RWF_NOWAIT on such
// a device (EOPNOTSUPP): there it asks poll first, which suffices for the one reader.
func (p *Port) readv() (int, unix.Errno) {
	for {
		n, errno := p.readvOnce()
		switch {
		case errno == unix.EOPNOTSUPP && !p.noFlag:
			p.noFlag = true
		case errno != unix.EINTR:
			return n, errno
		}
	}
}

func (p *Port) readvOnce() (int, unix.Errno) {
	iov := uintptr(unsafe.Pointer(&p.in))
	const current = ^uintptr(0) // offset -1: a stream has none
	if !p.noFlag {
		n, _, errno := unix.RawSyscall6(unix.SYS_PREADV2, uintptr(p.fd), iov, 1, current, current, unix.RWF_NOWAIT)
		return int(n), errno
	}
	p.noFlagP[0] = unix.PollFd{Fd: int32(p.fd), Events: unix.POLLIN}
	ready, err := unix.Poll(p.noFlagP[:], 0)
	switch {
	case err != nil:
		return 0, errnoOf(err)
	case ready == 0:
		return 0, unix.EAGAIN
	case p.noFlagP[0].Revents&unix.POLLIN == 0:
		return 0, unix.EBADFD
	}
	n, _, errno := unix.Syscall(unix.SYS_READV, uintptr(p.fd), iov, 1)
	return int(n), errno
}

func readError(errno unix.Errno) error {
	switch errno {
	case unix.EAGAIN:
		return ErrWouldBlock
	case unix.EBADFD, unix.EFAULT: // EFAULT: removed while a read was under way
		return ErrGone
	default:
		return errno
	}
}

// Write hands the kernel one packet or frame, single or super, that lies in b behind its
// header of HeaderSize bytes. Apart from ErrGone, an error concerns this packet, which is
// lost; after ErrRefused, the parts of a super-packet may be written singly.
func (p *Port) Write(b []byte) (int, error) {
	if len(b) <= HeaderSize {
		return 0, ErrRefused
	}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(p.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno == 0 {
			return len(b), nil
		}
		if errno != unix.EINTR {
			return 0, writeError(errno)
		}
	}
}

func writeError(errno unix.Errno) error {
	switch errno {
	case unix.EAGAIN:
		return ErrWouldBlock
	case unix.EIO:
		return ErrDown
	case unix.EINVAL:
		return ErrRefused
	case unix.EBADFD:
		return ErrGone
	default:
		return errno
	}
}

// Wait blocks until a packet can be read (nil), the descriptor stop is readable or
// closed at its other end (ErrStopped, which goes first), or the interface was
// removed (ErrGone). A negative stop is ignored.
func (p *Port) Wait(stop int) error {
	p.poll = [...]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	if err := p.waiter.Wait(p.poll[:]); err != nil {
		return err
	}
	if p.poll[1].Revents != 0 {
		return ErrStopped
	}
	_, err := p.Ready(p.poll[0].Revents)
	return err
}

// Ready tells what poll(2) has said of the descriptor when it was asked for POLLIN: whether
// a packet can be read, or ErrGone.
func (p *Port) Ready(revents int16) (bool, error) {
	if revents != 0 && revents&unix.POLLIN == 0 {
		return false, ErrGone
	}
	return revents != 0, nil
}

// Linger sets how long Wait keeps what it needs to go on; see package await. It is called
// before the first Wait.
func (p *Port) Linger(d time.Duration) { p.waiter.Linger = d }

// errnoOf returns the number behind what the unix package returns, which are bare
// numbers, and 0 for nil.
func errnoOf(err error) unix.Errno {
	errno, _ := err.(unix.Errno) //nolint:errorlint // the unix package does not wrap
	return errno
}

// gone names the errno of a descriptor whose interface was removed.
func gone(err error) error {
	if errors.Is(err, unix.EBADFD) {
		return ErrGone
	}
	return err
}
