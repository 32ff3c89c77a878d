package udp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/await"
)

var (
	// ErrWouldBlock is returned by Recv when nothing is queued.
	ErrWouldBlock = errors.New("udp: nothing to receive")
	// ErrStopped is returned by Wait when it was told to stop.
	ErrStopped = errors.New("udp: stopped")
)

// Counters says what a Port did not send or could not receive. Each datagram that
// was not sent is in one of the first five.
type Counters struct {
	TooBig       uint64 // larger than the outgoing interface's MTU (EMSGSIZE)
	NoBuffer     uint64 // no room in a queue (ENOBUFS, EAGAIN, ENOMEM)
	Denied       uint64 // refused by a packet filter or a policy (EPERM, EACCES)
	Unreachable  uint64 // no route, no local address, an ICMP error twice in a row, or whatever else kept it back
	NotConnected uint64 // the parent has not connected the socket yet
	Truncated    uint64 // received datagrams, or runs of them, that did not fit the buffer
	ICMP         uint64 // ICMP errors that were read and passed over
	Singly       uint64 // runs that the kernel refused as a whole and that were then sent one by one
}

// A Port is a child's end of a Socket. It has neither bind nor connect, and does not
// own its descriptor.
//
// Recv and Wait belong to one goroutine, SendRuns to one; the others are safe for
// concurrent use. None of them allocates.
type Port struct {
	fd     int
	waiter await.Waiter
	poll   [2]unix.PollFd
	in     receiver
	out    sender

	tooBig, noBuffer, denied, unreachable atomic.Uint64
	notConnected, truncated, icmp, singly atomic.Uint64
}

// FromFD makes a Port of an inherited datagram socket.
func FromFD(fd int) (*Port, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("udp descriptor %d: %w", fd, err)
	}
	if kind != unix.SOCK_DGRAM {
		return nil, fmt.Errorf("udp descriptor %d: not a datagram socket", fd)
	}
	p := &Port{fd: fd}
	p.in.init()
	p.out.runs.init()
	p.out.single.init()
	return p, nil
}

// FD is the descriptor, for poll.
func (p *Port) FD() int { return p.fd }

// Wait blocks until there is something to receive. It returns ErrStopped, which goes first,
// when the descriptor stop is readable or closed at its other end. A negative stop never
// stops.
func (p *Port) Wait(stop int) error {
	for {
		p.poll = [...]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		if err := p.waiter.Wait(p.poll[:]); err != nil {
			return fmt.Errorf("poll udp socket: %w", err)
		}
		if p.poll[1].Revents != 0 {
			return ErrStopped
		}
		if ready, err := p.Ready(p.poll[0].Revents); ready || err != nil {
			return err
		}
	}
}

// Linger sets how long Wait keeps what it needs to go on; see package await. It is called
// before the first Wait.
func (p *Port) Linger(d time.Duration) { p.waiter.Linger = d }

// Ready tells what poll(2) has said of the descriptor when it was asked for POLLIN: whether
// there is something to receive. It takes a pending error off the socket, which poll
// would report for ever.
func (p *Port) Ready(revents int16) (bool, error) {
	if revents&(unix.POLLNVAL|unix.POLLHUP) != 0 {
		return false, fmt.Errorf("poll udp socket: %w", unix.EBADF)
	}
	if revents&unix.POLLERR != 0 {
		code, err := unix.GetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if errno := unix.Errno(code); lost(errno) {
			err = errno
		}
		if err != nil {
			return false, fmt.Errorf("read udp socket's error: %w", err)
		}
		p.icmp.Add(1)
	}
	return revents&unix.POLLIN != 0, nil
}

// Send sends one datagram without blocking. It reports whether the kernel took it; what
// it refuses is counted as in SendRuns.
func (p *Port) Send(datagram []byte) (bool, error) {
	retried := false
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(datagram))),
			uintptr(len(datagram)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			return true, nil
		case p.again(errno, retried):
			retried = errno != unix.EINTR || retried
		case p.refused(errno, 1):
			return false, nil
		default:
			return false, fmt.Errorf("send: %w", errno)
		}
	}
}

// again reports whether the same datagram deserves another try: a send takes the ICMP
// error that an earlier datagram has caused, and is then not done.
func (p *Port) again(errno unix.Errno, retried bool) bool {
	if errno == unix.EINTR {
		return true
	}
	if retried || !pending(errno) {
		return false
	}
	p.icmp.Add(1)
	return true
}

// lost reports whether errno is about the socket, and not about some datagrams.
// ECONNABORTED comes, once, when somebody has destroyed it (ss -K): it is not connected any more.
func lost(errno unix.Errno) bool {
	switch errno {
	case unix.EBADF, unix.ENOTSOCK, unix.EPIPE, unix.ECONNABORTED, unix.EFAULT, unix.ENOSYS:
		return true
	default:
		return false
	}
}

// refused counts datagrams that were not sent. It is false if the socket is lost.
func (p *Port) refused(errno unix.Errno, count int) bool {
	if lost(errno) {
		return false
	}
	switch errno {
	case unix.EMSGSIZE:
		p.tooBig.Add(uint64(count))
	case unix.ENOBUFS, unix.EAGAIN, unix.ENOMEM:
		p.noBuffer.Add(uint64(count))
	case unix.EPERM, unix.EACCES:
		p.denied.Add(uint64(count))
	case unix.EDESTADDRREQ, unix.ENOTCONN:
		p.notConnected.Add(uint64(count))
	default: // an ICMP error; the source address or its interface is gone; IPsec, a driver
		p.unreachable.Add(uint64(count))
	}
	return true
}

// pending reports whether errno is one that an ICMP message leaves on a socket
// (icmp_err_convert in the kernel's net/ipv4/icmp.c and net/ipv6/icmp.c).
func pending(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET,
		unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.EMSGSIZE, unix.EPROTO, unix.EACCES:
		return true
	default:
		return false
	}
}

// Counters returns what has been counted since FromFD.
func (p *Port) Counters() Counters {
	return Counters{
		TooBig:       p.tooBig.Load(),
		NoBuffer:     p.noBuffer.Load(),
		Denied:       p.denied.Load(),
		Unreachable:  p.unreachable.Load(),
		NotConnected: p.notConnected.Load(),
		Truncated:    p.truncated.Load(),
		ICMP:         p.icmp.Load(),
		Singly:       p.singly.Load(),
	}
}
