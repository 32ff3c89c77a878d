package session

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/keys"
)

// memoryNode is a node whose listeners are reached in memory, in virtual time, from any address.
type memoryNode struct {
	t         *testing.T
	log       *slog.Logger
	identity  *keys.Identity
	admission *Admission
	preferred netip.Prefix // whose addresses are
	accepted  chan *Conn
}

func inMemoryNode(t *testing.T, test func(t *testing.T, s *memoryNode)) {
	synctest.Test(t, func(t *testing.T) {
		test(t, &memoryNode{t: t, log: slog.New(slog.DiscardHandler), identity: seed(2), admission: NewAdmission(), accepted: make(chan *Conn, 100)})
	})
}

// listen starts one more listener, for peers with these keys.
func (s *memoryNode) listen(known ...keys.PublicKey) *memoryListener {
	d := &memoryListener{arrivals: make(chan net.Conn), closed: make(chan struct{})}
	l, err := ListenOn(d, ListenerOptions{
		Log: s.log, Identity: s.identity, Admission: s.admission,
		Known:     func(k keys.PublicKey) bool { return slices.Contains(known, k) },
		Preferred: func(a netip.Addr) bool { return s.preferred.IsValid() && s.preferred.Contains(a) },
		Accepted:  func(c *Conn) { s.accepted <- c },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.Run(s.t.Context())
	}()
	s.t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return d
}

// memoryListener is a net.Listener in memory.
type memoryListener struct {
	arrivals chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (d *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-d.arrivals:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *memoryListener) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

func (d *memoryListener) Addr() net.Addr { return &net.TCPAddr{} }

// connect gives the client's end of a new connection, and what can be seen of the other.
func (d *memoryListener) connect(from netip.Addr) (net.Conn, *observed) {
	here, there := net.Pipe()
	o := &observed{Conn: there, from: from, begun: time.Now()}
	d.arrivals <- o
	return here, o
}

// observed is a listener's end of a connection: when it wrote, and when and how it was closed.
type observed struct {
	net.Conn
	from  netip.Addr
	begun time.Time

	mu   sync.Mutex
	seen sight
}

// sight is what the other end of a connection may notice. Times are since its arrival.
type sight struct {
	bytes    int
	answered time.Duration
	closed   time.Duration // 0: not yet
	reset    bool
}

func (o *observed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.from, 4000))
}

func (o *observed) SetLinger(seconds int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen.reset = seconds == 0
	return nil
}

func (o *observed) Write(b []byte) (int, error) {
	n, err := o.Conn.Write(b)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen.bytes == 0 {
		o.seen.answered = time.Since(o.begun)
	}
	o.seen.bytes += n
	return n, err
}

func (o *observed) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen.closed == 0 {
		o.seen.closed = max(time.Since(o.begun), 1)
	}
	return o.Conn.Close()
}

func (o *observed) sight() sight {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// firstRecord is a ClientHello as a peer sends it.
func firstRecord(t *testing.T, listener keys.PublicKey) []byte {
	t.Helper()
	return capture(t, seed(9), listener)[randomSize+macSize:]
}

// stall knows the listener's public key, and takes its answer without a word to it.
func (d *memoryListener) stall(from netip.Addr, opening []byte) *observed {
	c, o := d.connect(from)
	go func() {
		if _, err := c.Write(opening); err == nil {
			_, _ = io.Copy(io.Discard, c)
		}
		_ = c.Close()
	}()
	return o
}

// dial is a peer that does as it should, and says whether it has got through.
func (d *memoryListener) dial(t *testing.T, from netip.Addr, id *keys.Identity, listener keys.PublicKey) error {
	t.Helper()
	config, err := clientConfig(id, listener)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := d.connect(from)
	t.Cleanup(func() { _ = c.Close() })
	return tls.Client(&preludeWriter{Conn: c, listener: listener}, config).Handshake()
}
