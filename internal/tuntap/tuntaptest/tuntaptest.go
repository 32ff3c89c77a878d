// Package tuntaptest has an in-memory stand-in for [tuntap.Port].
//
// It keeps the Port's promises, which the tests of package tuntap check on both. A
// test plays the kernel: it puts packets in by Send, takes what was written by
// Receive, and may take the interface down or away. With a negative stop descriptor
// its Wait blocks on a channel only, so that it suits testing/synctest; Stop then
// does what closing the stop pipe does.
package tuntaptest

import (
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"tund/internal/tuntap"
)

// Port stands in for a [tuntap.Port]. It is safe for concurrent use.
type Port struct {
	readable int // an eventfd, readable while Read has something to say

	mu      sync.Mutex
	inbox   [][]byte // for Read, each behind its header
	outbox  [][]byte // from Write, likewise
	changed chan struct{}
	down    bool
	removed bool
	stopped bool
}

// New makes a Port whose interface is up. Close frees its descriptor.
func New() (*Port, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make event descriptor: %w", err)
	}
	return &Port{readable: fd, changed: make(chan struct{})}, nil
}

// Close frees the descriptor. Nothing may use the Port any more.
func (p *Port) Close() error { return unix.Close(p.readable) }

// FD returns a descriptor that is readable whenever Wait would return nil or
// ErrGone. It carries no packets.
func (p *Port) FD() int { return p.readable }

// Read is as [tuntap.Port.Read].
func (p *Port) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed {
		return 0, tuntap.ErrGone
	}
	if len(p.inbox) == 0 {
		return 0, tuntap.ErrWouldBlock
	}
	packet := p.inbox[0]
	p.inbox = slices.Delete(p.inbox, 0, 1)
	p.announceLocked()
	if len(packet) >= len(b) {
		return 0, tuntap.ErrTooLong
	}
	return copy(b, packet), nil
}

// Write is as [tuntap.Port.Write]. It keeps a copy of b.
func (p *Port) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.removed:
		return 0, tuntap.ErrGone
	case len(b) <= tuntap.HeaderSize:
		return 0, tuntap.ErrRefused
	case p.down:
		return 0, tuntap.ErrDown
	}
	p.outbox = append(p.outbox, slices.Clone(b))
	p.announceLocked()
	return len(b), nil
}

// Wait is as [tuntap.Port.Wait].
func (p *Port) Wait(stop int) error {
	for {
		if done, err := p.outcome(stop); done {
			return err
		}
		if err := p.block(stop); err != nil {
			return err
		}
	}
}

func (p *Port) outcome(stop int) (done bool, err error) {
	if stop >= 0 && pollIn(0, stop) {
		return true, tuntap.ErrStopped
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		return true, tuntap.ErrStopped
	case p.removed:
		return true, tuntap.ErrGone
	}
	return len(p.inbox) > 0, nil
}

func (p *Port) block(stop int) error {
	if stop >= 0 {
		pollIn(-1, stop, p.readable)
		return nil
	}
	p.mu.Lock()
	changed, idle := p.changed, len(p.inbox) == 0 && !p.removed && !p.stopped
	p.mu.Unlock()
	if idle {
		<-changed
	}
	return nil
}

// pollIn reports whether one of the descriptors has an event.
func pollIn(timeout int, fds ...int) bool {
	polled := make([]unix.PollFd, 0, len(fds))
	for _, fd := range fds {
		polled = append(polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	n, err := unix.Poll(polled, timeout)
	return err == nil && n > 0
}

// Send queues a copy of a single, complete packet for Read.
func (p *Port) Send(packet []byte) {
	p.SendBehind([tuntap.HeaderSize]byte{}, packet)
}

// SendBehind queues a copy of packet behind the given header.
func (p *Port) SendBehind(header [tuntap.HeaderSize]byte, packet []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inbox = append(p.inbox, append(header[:], packet...))
	p.announceLocked()
}

// Receive takes the oldest written packet, without its header. It waits for one; nil
// means that the interface was removed or the Port stopped, and none is left.
func (p *Port) Receive() []byte {
	_, packet := p.ReceiveBehind()
	return packet
}

// ReceiveBehind is Receive with the header, too.
func (p *Port) ReceiveBehind() (header [tuntap.HeaderSize]byte, packet []byte) {
	for {
		b, changed := p.take()
		if b != nil {
			return [tuntap.HeaderSize]byte(b), b[tuntap.HeaderSize:]
		}
		if changed == nil {
			return header, nil
		}
		<-changed
	}
}

func (p *Port) take() (packet []byte, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.outbox) > 0 {
		packet = p.outbox[0]
		p.outbox = slices.Delete(p.outbox, 0, 1)
		return packet, nil
	}
	if p.removed || p.stopped {
		return nil, nil
	}
	return nil, p.changed
}

// SetDown takes the link down or up: while it is down, Write drops.
func (p *Port) SetDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// Remove is what an administrator does with `ip link del`.
func (p *Port) Remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removed = true
	p.announceLocked()
}

// Stop makes each Wait return ErrStopped, now and later.
func (p *Port) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.announceLocked()
}

// announceLocked wakes who waits, and makes the event descriptor agree with the state.
func (p *Port) announceLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
	one := [8]byte{1}
	if len(p.inbox) > 0 || p.removed || p.stopped {
		_, _ = unix.Write(p.readable, one[:]) // full means readable already
	} else {
		_, _ = unix.Read(p.readable, one[:]) // empty means not readable already
	}
}
