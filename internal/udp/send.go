package udp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The bounds of one message of UDP_SEGMENT. Kernels from 6.9 take 128 datagrams.
const (
	maxSegments = 64
	maxMessage  = 65507 // bytes, over IPv4
)

// maxBatch is how many messages one system call takes; more take several.
const maxBatch = 64

// retryAfter is how many datagrams are sent singly after the kernel has refused a run of
// them as a whole, before the next run is tried: a route may have changed.
const retryAfter = 1024

// A Run is datagrams that lie one behind the other: each is Size bytes long, but for the
// last, which may be shorter. A single datagram is a Run, too. Size must not be 0 unless
// Bytes is empty.
type Run struct {
	Bytes []byte
	Size  int
}

// Count is the number of datagrams in the run.
func (r Run) Count() int {
	if len(r.Bytes) <= r.Size {
		return 1
	}
	return (len(r.Bytes) + r.Size - 1) / r.Size
}

// sender is the state of SendRuns.
type sender struct {
	runs   batch // as the caller gave them
	single batch // what of those was refused, one by one

	gso     atomic.Bool // UDP_SEGMENT may be used
	refused int         // runs of this size or more are known to be refused; 0: none
	skipped int         // datagrams sent singly since
}

// batch is what one sendmmsg sends.
type batch struct {
	count    int
	headers  [maxBatch]mmsghdr
	vectors  [maxBatch]unix.Iovec
	controls [maxBatch]segmentControl
	sizes    [maxBatch]int
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// segmentControl is the control message of UDP_SEGMENT, with its padding.
type segmentControl struct {
	header unix.Cmsghdr
	size   uint16
	_      [6]byte
}

func (b *batch) init() {
	for i := range b.headers {
		b.headers[i].hdr.Iov = &b.vectors[i]
		b.headers[i].hdr.SetIovlen(1)
		c := &b.controls[i]
		c.header.Level, c.header.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.header.SetLen(unix.SizeofCmsghdr + 2)
	}
}

// add appends one message.
func (b *batch) add(r Run) {
	i := b.count
	b.vectors[i].Base = unsafe.SliceData(r.Bytes)
	b.vectors[i].SetLen(len(r.Bytes))
	h := &b.headers[i].hdr
	h.Control = nil
	h.SetControllen(0)
	if len(r.Bytes) > r.Size {
		b.controls[i].size = uint16(r.Size)
		h.Control = (*byte)(unsafe.Pointer(&b.controls[i]))
		h.SetControllen(int(unsafe.Sizeof(b.controls[i])))
	}
	b.sizes[i] = r.Size
	b.count++
}

// run returns message i as it was added.
func (b *batch) run(i int) Run {
	return Run{Bytes: unsafe.Slice(b.vectors[i].Base, int(b.vectors[i].Len)), Size: b.sizes[i]}
}

// SetGSO says whether SendRuns may use UDP_SEGMENT, and reports whether it now does:
// kernels before 4.18 cannot. It is off at first.
func (p *Port) SetGSO(on bool) bool {
	if on {
		_, err := unix.GetsockoptInt(p.fd, unix.SOL_UDP, unix.UDP_SEGMENT)
		on = err == nil
	}
	p.out.gso.Store(on)
	return on
}

// SendRuns sends datagrams in order and returns how many the kernel took. A run goes as
// a whole where the kernel can do that (SetGSO), and one by one where it cannot. What the
// kernel refuses, for a reason that concerns these datagrams or this moment, is counted
// and left out. The error is not nil only when the socket is lost. It may block while
// the socket's buffer is full.
func (p *Port) SendRuns(runs []Run) (sent int, err error) {
	b := &p.out.runs
	for _, r := range runs {
		for first := true; first || len(r.Bytes) > 0; first = false {
			chunk := r
			chunk.Bytes = r.Bytes[:min(len(r.Bytes), p.out.most(r))]
			r.Bytes = r.Bytes[len(chunk.Bytes):]
			b.add(chunk)
			if b.count < maxBatch {
				continue
			}
			n, err := p.flush(b)
			sent += n
			if err != nil {
				return sent, err
			}
		}
	}
	n, err := p.flush(b)
	return sent + n, err
}

// most returns how many bytes of r may go in one message.
func (s *sender) most(r Run) int {
	if len(r.Bytes) <= r.Size || !s.gso.Load() {
		return r.Size
	}
	if s.refused > 0 && r.Size >= s.refused {
		if s.skipped++; s.skipped < retryAfter {
			return r.Size
		}
		s.refused, s.skipped = 0, 0
	}
	return r.Size * max(1, min(maxSegments, maxMessage/r.Size))
}

// flush sends b and empties it.
func (p *Port) flush(b *batch) (sent int, err error) {
	retried := false
	for i := 0; i < b.count; {
		n, errno := p.sendmmsg(b, i)
		if errno == 0 {
			for _, end := i, i+n; i < end; i++ {
				sent += b.run(i).Count()
			}
			retried = false
			continue
		}
		if p.again(errno, retried) {
			retried = errno != unix.EINTR || retried
			continue
		}
		n, err := p.giveUp(b.run(i), errno)
		sent += n
		if err != nil {
			b.count = 0
			return sent, err
		}
		i++
		retried = false
	}
	b.count = 0
	return sent, nil
}

// sendmmsg sends the messages from i on. It returns an error only if not even the first
// could be sent.
func (p *Port) sendmmsg(b *batch, i int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&b.headers[i])),
		uintptr(b.count-i), unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN { // the buffer is full: the runtime should know that this may take a while
		n, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&b.headers[i])),
			uintptr(b.count-i), 0, 0, 0)
	}
	return int(n), errno
}

// giveUp handles a message that was refused: the datagrams of a run are tried one by one.
// EIO comes where checksums cannot be left to the device, EINVAL and EMSGSIZE
// where datagrams would have to be fragmented; all three from other causes, too.
func (p *Port) giveUp(r Run, errno unix.Errno) (sent int, err error) {
	whole := errno == unix.EIO || errno == unix.EINVAL || errno == unix.EMSGSIZE
	if !whole || len(r.Bytes) <= r.Size {
		if !p.refused(errno, r.Count()) {
			return 0, fmt.Errorf("send: %w", errno)
		}
		return 0, nil
	}
	p.singly.Add(1)
	p.out.refused, p.out.skipped = r.Size, 0
	if errno == unix.EIO {
		p.out.refused = 1
	}
	for rest := r.Bytes; len(rest) > 0; rest = rest[min(len(rest), r.Size):] {
		p.out.single.add(Run{Bytes: rest[:min(len(rest), r.Size)], Size: r.Size})
	}
	return p.flush(&p.out.single)
}
