package datapath

import (
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"tund/internal/pipe"
	"tund/internal/segment"
	"tund/internal/tuntap"
	"tund/internal/udp"
)

// fakeStop wakes the fakes below by a channel.
type fakeStop struct {
	closed chan struct{}
	once   sync.Once
}

func newFakeStop() *fakeStop       { return &fakeStop{closed: make(chan struct{})} }
func (s *fakeStop) FD() int        { return -1 }
func (s *fakeStop) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }
func (s *fakeStop) isClosed() bool { return isClosed(s.closed) }
func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// queue is what waits to be read: packets or datagrams, in order.
type queue struct {
	mu    sync.Mutex
	items []item
	ready chan struct{} // 1
	stop  *fakeStop
}

func newQueue(stop *fakeStop) *queue { return &queue{ready: make(chan struct{}, 1), stop: stop} }

// item is a packet behind its header, or a run of datagrams of that size.
type item struct {
	bytes  []byte
	size   int
	header segment.VirtioHeader
}

func (q *queue) put(p []byte) { q.putItem(item{bytes: p, size: len(p)}) }

func (q *queue) putItem(i item) {
	i.bytes = slices.Clone(i.bytes)
	q.mu.Lock()
	q.items = append(q.items, i)
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take copies the first item into p; false if there is none.
func (q *queue) take(p []byte) (n int, i item, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return 0, item{}, false
	}
	i = q.items[0]
	n = copy(p, i.bytes)
	q.items = q.items[1:]
	if len(q.items) > 0 {
		q.wake()
	}
	return n, i, true
}

// wait is true when something can be taken, false at the stop, which goes first.
func (q *queue) wait() bool {
	q.mu.Lock()
	stop := q.stop
	q.mu.Unlock()
	if stop.isClosed() {
		return false
	}
	select {
	case <-q.ready:
		return true
	case <-stop.closed:
		return false
	}
}

// adopt gives the queue to a new owner. What waits in it goes on waiting.
func (q *queue) adopt(stop *fakeStop) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stop = stop
}

// waiting is how many items nobody has taken.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// fakeDevice is a device whose kernel side is a test.
type fakeDevice struct {
	*queue
	mu      sync.Mutex
	written [][]byte // single packets; what comes as a super-packet is cut as the kernel does
	supers  []item   // the super-packets among them
	reading error    // what Read returns instead of a packet
	writing error    // what Write returns
	singly  bool     // Write refuses super-packets
}

func (d *fakeDevice) Read(p []byte) (int, error) {
	d.mu.Lock()
	err := d.reading
	d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if n, i, ok := d.take(p[tuntap.HeaderSize:]); ok {
		i.header.Append(p[:0])
		return tuntap.HeaderSize + n, nil
	}
	return 0, tuntap.ErrWouldBlock
}

func (d *fakeDevice) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writing != nil {
		return 0, d.writing
	}
	h, err := segment.ParseVirtioHeader(p[:tuntap.HeaderSize])
	packet := slices.Clone(p[tuntap.HeaderSize:])
	if err != nil || h.Type != segment.GSONone && d.singly {
		return 0, tuntap.ErrRefused
	}
	if h.Type != segment.GSONone {
		d.supers = append(d.supers, item{bytes: packet, header: h})
	}
	d.written = append(d.written, cut(h, packet)...)
	return len(p), nil
}

func (d *fakeDevice) Wait(int) error {
	if d.wait() {
		return nil
	}
	return tuntap.ErrStopped
}

// got returns what was written since the last call.
func (d *fakeDevice) got() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.written
	d.written = nil
	return p
}

func (d *fakeDevice) fail(reading, writing error) {
	d.mu.Lock()
	d.reading, d.writing = reading, writing
	d.mu.Unlock()
	d.wake()
}

// fakeSocket is a socket that sends into a function.
type fakeSocket struct {
	*queue
	sending  chan struct{} // 1: full while send runs; in a bubble time passes for who waits, unlike for a mutex
	mu       sync.Mutex
	send     func(datagram []byte) // gets a copy
	sendRun  func(run item)        // if not nil, gets runs as they are
	gso, gro bool
	backlog  int
	crowded  bool
	roomy    chan struct{} // 1: it is crowded no more
	refuse   bool
	counters udp.Counters
	lost     error
}

func (s *fakeSocket) SetGSO(on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gso = on && s.sendRun != nil
	return s.gso
}

func (s *fakeSocket) SetGRO(on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gro = on
	return on
}

func (s *fakeSocket) Backlog() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backlog
}

func (s *fakeSocket) Crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crowded
}

// crowd has the socket take no more, or more again.
func (s *fakeSocket) crowd(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crowded = on; !on {
		s.roomy <- struct{}{}
	}
}

func (s *fakeSocket) Recv(p []byte) (n, size int, err error) {
	s.mu.Lock()
	err = s.lost
	s.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	if n, i, ok := s.take(p); ok {
		return n, i.size, nil
	}
	return 0, 0, udp.ErrWouldBlock
}

func (s *fakeSocket) SendRuns(runs []udp.Run) (int, error) {
	sent := 0
	s.mu.Lock()
	whole, sendRun := s.gso && !s.refuse, s.sendRun
	s.mu.Unlock()
	for _, r := range runs {
		if whole {
			sendRun(item{bytes: r.Bytes, size: r.Size})
			sent += (len(r.Bytes) + r.Size - 1) / r.Size
			continue
		}
		for d := range slices.Chunk(r.Bytes, r.Size) {
			if ok, err := s.Send(d); err != nil {
				return sent, err
			} else if ok {
				sent++
			}
		}
	}
	return sent, nil
}

func (s *fakeSocket) Send(datagram []byte) (bool, error) {
	s.mu.Lock()
	send, refuse := s.send, s.refuse
	if refuse {
		s.counters.NoBuffer++
	}
	s.mu.Unlock()
	if refuse {
		return false, nil
	}
	s.sending <- struct{}{}
	defer func() { <-s.sending }()
	send(slices.Clone(datagram))
	return true, nil
}

func (s *fakeSocket) Wait(int) error {
	if s.wait() {
		return nil
	}
	return udp.ErrStopped
}

func (s *fakeSocket) Counters() udp.Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters
}

// link sets what happens to datagrams that are sent from now on.
func (s *fakeSocket) link(send func([]byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send = send
}

// fakeBoth waits for both fakes.
type fakeBoth struct {
	device *fakeDevice
	socket *fakeSocket
	stop   *fakeStop
}

func (b fakeBoth) Wait(_ int, crowded bool) (device, socket bool, err error) {
	if b.stop.isClosed() {
		return false, false, tuntap.ErrStopped
	}
	instead := b.device.ready
	if crowded {
		instead = b.socket.roomy
	}
	select {
	case <-instead:
		return true, false, nil
	case <-b.socket.ready:
		return false, true, nil
	case <-b.stop.closed:
		return false, false, tuntap.ErrStopped
	}
}

// childPipe is the child's end of an in-memory pipe.
type childPipe struct {
	*pipe.Conn
	r *io.PipeReader
	w *io.PipeWriter
}

func (p childPipe) Close() error {
	_ = p.r.Close()
	return p.w.Close()
}

// fakeParent is the other end. Everything that the child says lies in said.
type fakeParent struct {
	*pipe.Conn
	t    *testing.T
	r    *io.PipeReader
	w    *io.PipeWriter
	mu   sync.Mutex
	said []pipe.Message
}

func newPipes(t *testing.T) (*fakeParent, childPipe) {
	toChild, fromParent := io.Pipe()
	toParent, fromChild := io.Pipe()
	child := childPipe{pipe.NewConn(toChild, fromChild, pipe.Child), toChild, fromChild}
	parent := &fakeParent{t: t, Conn: pipe.NewConn(toParent, fromParent, pipe.Parent), r: toParent, w: fromParent}
	return parent, child
}

// listen collects messages until the child closes its end.
func (p *fakeParent) listen() {
	for {
		m, err := p.Receive()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
			return
		}
		if err != nil {
			p.t.Error(err)
			_ = p.r.CloseWithError(err) // or the child waits for its message to be read
			return
		}
		p.mu.Lock()
		p.said = append(p.said, m)
		p.mu.Unlock()
	}
}

// tell sends a message, which the child must take.
func (p *fakeParent) tell(m pipe.Message) {
	p.t.Helper()
	if err := p.Send(m); err != nil {
		p.t.Fatal(err)
	}
}

// heard returns what the child said since the last call.
func (p *fakeParent) heard() []pipe.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.said
	p.said = nil
	return m
}
