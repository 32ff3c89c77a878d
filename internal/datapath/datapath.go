package datapath

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tund/internal/aead"
	"tund/internal/pipe"
	"tund/internal/udp"
)

// Device is the child's end of a TUN or TAP device: a [tund/internal/tuntap.Port]. Each
// packet has a virtio header in front. One goroutine calls Read and Wait, another Write. Errors are that package's.
type Device interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	Wait(stop int) error
}

// Socket is the child's end of a UDP socket: a [tund/internal/udp.Port]. One goroutine
// calls Recv, Backlog, Crowded and Wait, another SendRuns; all else is safe for concurrent use. Errors are that package's; what the kernel did not take is in its Counters.
type Socket interface {
	SetGSO(on bool) bool
	SetGRO(on bool) bool
	Recv(p []byte) (n, size int, err error)
	Backlog() int
	Crowded() bool
	SendRuns(runs []udp.Run) (int, error)
	Send(datagram []byte) (bool, error)
	Wait(stop int) error
	Counters() udp.Counters
}

// Pipe is the child's end of the conversation with its parent: a
// [tund/internal/pipe.Conn] over two descriptors. Close makes Receive return.
type Pipe interface {
	Send(m pipe.Message) error
	Receive() (pipe.Message, error)
	Close() error
}

// Stop is what the loops wait for besides packets. FD is given to every Wait; after
// Close each Wait returns the ErrStopped of its package. Close is called once. What is sent
// on Pipe after it still arrives.
type Stop interface {
	FD() int
	Close() error
}

// Options is what a Datapath is made of. Engine and what follows may be left out.
type Options struct {
	Log    *slog.Logger
	Mode   pipe.Mode // the device's; a Configure must agree
	Device Device
	Socket Socket
	Pipe   Pipe
	Stop   Stop
	Now    func() time.Duration // a clock that goes on while the machine is suspended
	Engine aead.Engine          // nil: the one of the standard library
	Limits Limits               // zero: ProtocolLimits
	Timer  Timer                // nil: package time's
	Both   Both                 // of Device and Socket; nil: a goroutine for each
	Thread Thread               // that of Both's goroutine; nil: it is never urgent

	Sandbox pipe.Walls // what confines this process, for status
}

// Datapath is the packet loops of one peer.
type Datapath struct {
	control *control
}

// New returns a Datapath without keys. It starts nothing.
func New(o Options) (*Datapath, error) {
	if o.Log == nil || o.Device == nil || o.Socket == nil || o.Pipe == nil || o.Stop == nil || o.Now == nil {
		return nil, errors.New("datapath: incomplete options")
	}
	if o.Mode != pipe.ModeTUN && o.Mode != pipe.ModeTAP {
		return nil, fmt.Errorf("datapath: mode %d", o.Mode)
	}
	if o.Limits == (Limits{}) {
		o.Limits = ProtocolLimits()
	}
	if o.Engine == nil {
		engine, err := aead.Open(aead.ChooseGo)
		if err != nil {
			return nil, fmt.Errorf("datapath: %w", err)
		}
		o.Engine = engine
	}
	sh := &shared{
		now: o.Now, limits: o.Limits, socket: o.Socket, stop: o.Stop,
		wake:    make(chan struct{}, 1),
		answers: make(chan answered, 16),
	}
	sh.table.Store(&table{})
	out := newOutbound(sh, o.Mode, o.Device)
	return &Datapath{newControl(o, sh, out, newInbound(sh, o.Mode, o.Device))}, nil
}

// Run answers the parent's Hello and serves until Stop, the end of the pipe or the
// end of ctx, for which it returns nil, or until something is lost. It tells the
// parent of an error by Fatal. It closes Pipe and Stop and has ended all its
// goroutines when it returns; no key is left then. It may be called once.
func (d *Datapath) Run(ctx context.Context) error {
	err := d.control.run(ctx)
	if err != nil {
		// The parent may be gone, and then nobody is left to be told.
		_ = d.control.pipe.Send(pipe.Fatal{Reason: err.Error()})
	}
	d.control.close()
	return err
}

// errDeviceGone is the Fatal after which the parent makes a new device.
var errDeviceGone = errors.New(pipe.ReasonDeviceGone)

// shared is what the goroutines have in common.
type shared struct {
	now    func() time.Duration
	limits Limits
	socket Socket
	stop   Stop

	table    atomic.Pointer[table]
	halting  atomic.Bool  // the loops are to end: no batch after the one in work
	lastSent atomic.Int64 // when an authentic datagram was last sent

	wake    chan struct{} // 1: a wake-up that waits stands for all later ones
	answers chan answered // 16: more than are ever asked for at once
}

// signal wakes control, which then looks at everything. It never blocks.
func (s *shared) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// transmit sends one datagram. Its loss is as good as one on the way, and a lost
// socket is noticed by the loops.
func (s *shared) transmit(datagram []byte, now time.Duration) {
	if ok, err := s.socket.Send(datagram); ok && err == nil {
		s.lastSent.Store(int64(now))
	}
}

// loops runs outbound and inbound.
type loops struct {
	group  sync.WaitGroup
	failed chan error // 2: one for each
}

// start lets run work until the stop, and reports its error.
func (l *loops) start(run func() error) {
	l.group.Go(func() {
		if err := run(); err != nil {
			l.failed <- err
		}
	})
}
