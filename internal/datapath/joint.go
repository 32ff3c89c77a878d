package datapath

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/await"
	"tund/internal/tuntap"
	"tund/internal/udp"
)

// What is written to the device calls forth packets in return, as data does
// acknowledgements, and so does what is sent. Where there are no processors to spare for
// a second goroutine, one that carries both directions is awake already when that comes:
// nobody is woken for it, and it comes in larger batches. It does not block in a send: one
// direction must not stop the other.

// Both waits for device and socket at once. One goroutine calls it.
type Both interface {
	// Wait blocks until the device has a packet, the socket has a datagram, or the stop,
	// for which it returns tuntap.ErrStopped. If the socket is crowded, what it waits for in
	// place of a packet is that it is no more.
	Wait(stop int, crowded bool) (device, socket bool, err error)
}

// Pair is the Both of a real device and a real socket.
type Pair struct {
	device *tuntap.Port
	socket *udp.Port
	waiter await.Waiter
	poll   [3]unix.PollFd
}

// NewPair returns a Pair whose waits linger as package await says.
func NewPair(device *tuntap.Port, socket *udp.Port, linger time.Duration) *Pair {
	return &Pair{device: device, socket: socket, waiter: await.Waiter{Linger: linger}}
}

// Wait is that of Both.
func (p *Pair) Wait(stop int, crowded bool) (device, socket bool, err error) {
	for !device && !socket && err == nil {
		p.poll = [...]unix.PollFd{
			{Fd: int32(p.device.FD()), Events: unix.POLLIN},
			{Fd: int32(p.socket.FD()), Events: unix.POLLIN},
			{Fd: int32(stop), Events: unix.POLLIN},
		}
		if crowded {
			p.poll[0].Fd = -1
			p.poll[1].Events |= unix.POLLOUT
		}
		if err := p.waiter.Wait(p.poll[:]); err != nil {
			return false, false, fmt.Errorf("poll device and socket: %w", err)
		}
		device, socket, err = p.judge()
	}
	return device, socket, err
}

// judge says what poll has said.
func (p *Pair) judge() (device, socket bool, err error) {
	if p.poll[2].Revents != 0 {
		return false, false, tuntap.ErrStopped
	}
	if device, err = p.device.Ready(p.poll[0].Revents); err != nil {
		return false, false, deviceError("wait", err)
	}
	socket, err = p.socket.Ready(p.poll[1].Revents)
	return device || p.poll[1].Revents&unix.POLLOUT != 0, socket, err
}

// jointBatches is how many batches are sent before what may have come is looked at.
const jointBatches = 4

// crowdedEvery is after how many bytes sent the socket is asked whether it is crowded. Even
// the buffer of a socket that nobody could enlarge has more room than that left then.
const crowdedEvery = 64 << 10

// joint is both loops in one goroutine.
type joint struct {
	out      *outbound
	in       *inbound
	both     Both
	asked    uint64 // bytes sent when the socket was last asked
	crowded  bool
	priority priority
}

// run moves packets both ways until the stop, or until the device or socket is lost.
func (j *joint) run() error {
	for {
		device, socket, err := j.both.Wait(j.in.stop.FD(), j.crowded)
		if errors.Is(err, tuntap.ErrStopped) {
			return nil
		}
		if err != nil {
			return err
		}
		j.priority.begin(j.out.now)
		if socket {
			if err := j.receive(); err != nil {
				return err
			}
		}
		j.crowded = j.crowded && !device
		if err := j.send(); err != nil {
			return err
		}
		now := j.out.now()
		j.priority.turn(now, j.out.counters.bytes.Load()+j.in.counters.bytes.Load())
		j.priority.rest(now)
	}
}

func (j *joint) receive() error {
	j.in.turn.begin()
	defer j.in.turn.end()
	return j.in.batch()
}

// send carries what the device has, unless the socket is crowded.
func (j *joint) send() error {
	if j.crowded {
		return nil
	}
	j.out.turn.begin()
	defer j.out.turn.end()
	for range jointBatches {
		more, err := j.out.carry()
		if j.ask(); err != nil || !more || j.crowded || j.out.halting.Load() {
			return err
		}
	}
	return nil
}

// ask finds out from time to time whether the socket is crowded.
func (j *joint) ask() {
	if sent := j.out.counters.bytes.Load(); sent-j.asked >= crowdedEvery {
		j.asked, j.crowded = sent, j.out.socket.Crowded()
	}
}
