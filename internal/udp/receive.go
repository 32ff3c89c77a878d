package udp

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver is what recvmsg needs. It is part of the Port because locals would escape
// to the heap.
type receiver struct {
	header  unix.Msghdr
	vector  unix.Iovec
	control [64]byte

	info     [unix.SK_MEMINFO_VARS]uint32
	infoSize uint32
}

func (r *receiver) init() {
	r.header.Iov = &r.vector
	r.header.SetIovlen(1)
	r.header.Control = &r.control[0]
}

// SetGRO says whether Recv may return several datagrams at once, and reports whether it
// now may: kernels before 5.0 cannot. The setting belongs to the socket, not to this Port.
func (p *Port) SetGRO(on bool) bool {
	value := 0
	if on {
		value = 1
	}
	return unix.SetsockoptInt(p.fd, unix.SOL_UDP, unix.UDP_GRO, value) == nil && on
}

// Backlog returns how many bytes of the socket's receive buffer are in use: more than
// the datagrams that wait have, by what the kernel keeps beside each. It belongs to the
// goroutine of Recv.
func (p *Port) Backlog() int {
	if !p.memory() {
		return 0
	}
	return int(p.in.info[unix.SK_MEMINFO_RMEM_ALLOC])
}

// Crowded reports whether half of the send buffer is in use. Then poll no longer says
// that the socket is writable, though SendRuns does not block yet. It belongs to the
// goroutine of Recv.
func (p *Port) Crowded() bool {
	return p.memory() && p.in.info[unix.SK_MEMINFO_WMEM_ALLOC] >= p.in.info[unix.SK_MEMINFO_SNDBUF]/2
}

// memory asks for the use of the buffers; false before Linux 4.12.
func (p *Port) memory() bool {
	r := &p.in
	r.infoSize = uint32(unsafe.Sizeof(r.info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(p.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&r.info)), uintptr(unsafe.Pointer(&r.infoSize)), 0)
	return errno == 0
}

// Recv copies one datagram into b, or a run of datagrams if SetGRO has permitted it: they
// lie one behind the other, each size bytes long, but for the last, which may be shorter.
// n is the length of all; a single datagram has size n. Recv never blocks: if there is
// none, it returns ErrWouldBlock. What is larger than b is dropped and counted, an ICMP
// error counted and passed over. Any other error means that the socket is lost.
func (p *Port) Recv(b []byte) (n, size int, err error) {
	r := &p.in
	r.vector.Base = unsafe.SliceData(b)
	r.vector.SetLen(len(b))
	for {
		r.header.SetControllen(len(r.control))
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&r.header)), unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errno == 0 && int(n) <= len(b):
			return int(n), r.size(int(n)), nil
		case errno == 0:
			p.truncated.Add(1)
		case errno == unix.EAGAIN, errno == unix.ENOMEM, errno == unix.ENOBUFS:
			return 0, 0, ErrWouldBlock
		case errno == unix.EINTR:
		case pending(errno):
			p.icmp.Add(1)
		default:
			return 0, 0, fmt.Errorf("receive: %w", errno)
		}
	}
}

// size returns the length of each datagram of a run of n bytes. The kernel sends no
// other control message, as nobody has asked for one.
func (r *receiver) size(n int) int {
	if r.header.Controllen < unix.SizeofCmsghdr+4 {
		return n
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&r.control[0]))
	if h.Level != unix.SOL_UDP || h.Type != unix.UDP_GRO {
		return n
	}
	size := int(int32(binary.NativeEndian.Uint32(r.control[unix.SizeofCmsghdr:])))
	if size <= 0 || size > n {
		return n
	}
	return size
}
