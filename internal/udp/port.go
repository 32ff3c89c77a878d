package udp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	// ErrWouldBlock is returned by Recv when nothing is queued.
	ErrWouldBlock = errors.New("udp: nothing to receive")
	// ErrStopped is returned by Wait when its stop descriptor was hung up.
	ErrStopped = errors.New("udp: stopped")
)

// maxBatch is how many datagrams one system call takes; larger batches take several.
const maxBatch = 128

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// Counters says what a Port did not send or could not receive. Each datagram that
// was not sent is in one of the first five.
type Counters struct {
	TooBig       uint64 // larger than the outgoing interface's MTU (EMSGSIZE)
	NoBuffer     uint64 // no room in a queue (ENOBUFS, EAGAIN, ENOMEM)
	Denied       uint64 // refused by a packet filter or a policy (EPERM, EACCES)
	Unreachable  uint64 // no route, no local address, or an ICMP error twice in a row
	NotConnected uint64 // the parent has not connected the socket yet
	Truncated    uint64 // received datagrams that did not fit the buffer
	ICMP         uint64 // ICMP errors that were read and passed over
}

// A Port is a child's end of a Socket. It has neither bind nor connect, and does not
// own its descriptor.
//
// Recv and Wait belong to one goroutine, SendBatch to one; Send and Counters are safe
// for concurrent use. None of them allocates.
type Port struct {
	fd      int
	headers [maxBatch]mmsghdr
	vectors [maxBatch]unix.Iovec
	poll    [2]unix.PollFd

	tooBig, noBuffer, denied, unreachable atomic.Uint64
	notConnected, truncated, icmp         atomic.Uint64
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
	for i := range p.headers {
		p.headers[i].hdr.Iov = &p.vectors[i]
		p.headers[i].hdr.SetIovlen(1)
	}
	return p, nil
}

// FD is the descriptor, for poll.
func (p *Port) FD() int { return p.fd }

// Wait blocks until there is something to receive. It returns ErrStopped when stop,
// the read end of a pipe, is hung up: when the last writer has closed it. Bytes waiting in that
// pipe do not wake it, so that a child can give its message pipe. A negative
// stop never stops.
func (p *Port) Wait(stop int) error {
	for {
		p.poll[0] = unix.PollFd{Fd: int32(p.fd), Events: unix.POLLIN}
		p.poll[1] = unix.PollFd{Fd: int32(stop)}
		if _, err := unix.Poll(p.poll[:], -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return fmt.Errorf("poll udp socket: %w", err)
		}
		if p.poll[1].Revents != 0 {
			return ErrStopped
		}
		if ready, err := p.ready(p.poll[0].Revents); ready || err != nil {
			return err
		}
	}
}

// ready takes a pending error off the socket, which poll would report for ever.
func (p *Port) ready(revents int16) (bool, error) {
	if revents&(unix.POLLNVAL|unix.POLLHUP) != 0 {
		return false, fmt.Errorf("poll udp socket: %w", unix.EBADF)
	}
	if revents&unix.POLLERR != 0 {
		p.icmp.Add(1)
		if _, err := unix.GetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
			return false, fmt.Errorf("read udp socket's error: %w", err)
		}
	}
	return revents&unix.POLLIN != 0, nil
}

// Recv copies one datagram into b and returns its length. It never blocks: if there is
// none, it returns ErrWouldBlock. A datagram that is larger than b is dropped and counted,
// an ICMP error counted and passed over. Any other error means that the socket is lost.
func (p *Port) Recv(b []byte) (int, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
		switch {
		case errno == 0 && int(n) <= len(b):
			return int(n), nil
		case errno == 0:
			p.truncated.Add(1)
		case errno == unix.EAGAIN, errno == unix.ENOMEM, errno == unix.ENOBUFS:
			return 0, ErrWouldBlock
		case errno == unix.EINTR:
		case pending(errno):
			p.icmp.Add(1)
		default:
			return 0, fmt.Errorf("receive: %w", errno)
		}
	}
}

// SendBatch sends datagrams in order and returns how many the kernel took. What it
// refuses, for a reason that concerns this datagram or this moment, is counted and
// left out. The error is not nil only when the socket is lost. It may block while the
// socket's buffer is full.
func (p *Port) SendBatch(datagrams [][]byte) (int, error) {
	sent := 0
	for len(datagrams) > 0 {
		batch := datagrams[:min(len(datagrams), maxBatch)]
		datagrams = datagrams[len(batch):]
		n, err := p.sendBatch(batch)
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func (p *Port) sendBatch(batch [][]byte) (int, error) {
	for i, d := range batch {
		p.vectors[i].Base = unsafe.SliceData(d)
		p.vectors[i].SetLen(len(d))
	}
	sent, retried := 0, false
	for i := 0; i < len(batch); {
		n, errno := p.sendmmsg(i, len(batch))
		if errno == 0 {
			sent += n
			i += n
			retried = false
			continue
		}
		if p.again(errno, retried) {
			retried = errno != unix.EINTR || retried
			continue
		}
		if !p.refused(errno) {
			return sent, fmt.Errorf("send: %w", errno)
		}
		i++
		retried = false
	}
	return sent, nil
}

// sendmmsg sends the prepared headers from i to end. It returns an error only if not
// even the first could be sent.
func (p *Port) sendmmsg(i, end int) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&p.headers[i])),
		uintptr(end-i), 0, 0, 0)
	return int(n), errno
}

// Send sends one datagram without blocking. It reports whether the kernel took it; what
// it refuses is counted as in SendBatch.
func (p *Port) Send(datagram []byte) (bool, error) {
	retried := false
	for {
		_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(datagram))),
			uintptr(len(datagram)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			return true, nil
		case p.again(errno, retried):
			retried = errno != unix.EINTR || retried
		case p.refused(errno):
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

// refused counts a datagram that was not sent. It is false for an error that is not
// about the datagram.
func (p *Port) refused(errno unix.Errno) bool {
	switch errno {
	case unix.EMSGSIZE:
		p.tooBig.Add(1)
	case unix.ENOBUFS, unix.EAGAIN, unix.ENOMEM:
		p.noBuffer.Add(1)
	case unix.EPERM, unix.EACCES:
		p.denied.Add(1)
	case unix.EDESTADDRREQ, unix.ENOTCONN:
		p.notConnected.Add(1)
	case unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENETDOWN, unix.ENODEV:
		p.unreachable.Add(1) // the source address or its interface is gone
	default:
		if !pending(errno) {
			return false
		}
		p.unreachable.Add(1)
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
	}
}
