package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/sandbox"
	"tund/internal/supervisor"
	"tund/internal/tuntap"
	"tund/internal/udp"
	"tund/internal/wire"
)

// TestMain lets the test binary be the data children of its tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == sandbox.RoleStart || os.Args[1] == sandbox.Role) {
		if os.Args[1] == sandbox.Role {
			lack(os.Getenv(lackVariable))
		}
		syscall.Exit(runDatapath(os.Args)) // os.Exit would wait a second for the race detector
	}
	os.Exit(m.Run())
}

// An end is one end of a tunnel with a real child in its sandbox:
//
//	namespace 1                                          namespace 2
//	10.0.0.1 ── a ── child ─┐                ┌─ child ── b ── 10.0.0.2, echo
//	                        └── loopback 1 ──┘
type end struct {
	t      *testing.T
	device *tuntap.Device
	socket *udp.Socket
	number byte // 0 or 1

	child     *supervisor.Supervisor
	events    chan supervisor.Event
	installed chan pipe.Installed
}

// newNamespace moves the test to a new network namespace, which ends with the
// goroutine's thread: it is never unlocked.
func newNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	ip(t, "link set lo up")
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// newTunnel makes both ends, and leaves the test in the first one's namespace.
func newTunnel(t *testing.T) [2]*end {
	t.Helper()
	newNamespace(t)
	ends := [2]*end{{t: t, number: 0}, {t: t, number: 1}}
	for _, e := range ends {
		socket, err := udp.NewSocket()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = socket.Close() })
		e.socket = socket
		if err := socket.Bind(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range ends {
		if err := e.socket.Connect(ends[i].address(), ends[1-i].address()); err != nil {
			t.Fatal(err)
		}
	}
	first, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	ends[0].openDevice()
	newNamespace(t)
	ends[1].openDevice()
	echo(t, "10.0.0.2:7")
	if err := unix.Setns(int(first.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	return ends
}

func (e *end) address() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), e.socket.LocalPort())
}

func (e *end) openDevice() {
	e.t.Helper()
	device, err := tuntap.Open(tuntap.Options{Name: "tun0", Mode: tuntap.TUN, Queue: 1000})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = device.Close() })
	e.device = device
	ip(e.t, fmt.Sprintf("addr add 10.0.0.%d/24 dev tun0", 1+e.number))
	ip(e.t, "link set dev tun0 up mtu 1400")
}

// start begins a child, which goes on from a state if there is one.
func (e *end) start(state *supervisor.State) {
	e.t.Helper()
	e.events, e.installed = make(chan supervisor.Event), make(chan pipe.Installed, 1)
	ended := make(chan struct{})
	e.child = supervisor.New(supervisor.Options{
		Log: slog.New(slog.NewTextHandler(e.t.Output(), nil)), Name: "test",
		Device: e.device.File(), Socket: e.socket.File(), Events: e.events, Resume: state,
		Configure: func() pipe.Configure {
			return pipe.Configure{Mode: pipe.ModeTUN, KeyLifetime: time.Hour, Offloads: pipe.OffloadUDPGSO | pipe.OffloadUDPGRO}
		},
	})
	child := e.child
	go func() { // ends with HandOver, or with the test
		defer close(ended)
		_ = child.Run(e.t.Context())
	}()
	e.t.Cleanup(func() { <-ended })
	switch b := (<-e.events).Body.(type) {
	case supervisor.Started:
		if b.Resumed != (state != nil) || b.Refused != nil {
			e.t.Fatalf("%+v", b)
		}
	default:
		e.t.Fatalf("%+v", b)
	}
	go e.listen(e.events, e.installed, ended)
}

// listen takes all events until the child has ended.
func (e *end) listen(events <-chan supervisor.Event, installed chan<- pipe.Installed, ended <-chan struct{}) {
	for {
		select {
		case event := <-events:
			if b, ok := event.Body.(supervisor.Received); ok && b.Message.Type() == pipe.TypeInstalled {
				installed <- b.Message.(pipe.Installed)
			}
		case <-ended:
			return
		}
	}
}

// install gives the child its side of a key that both ends can make.
func (e *end) install(id keys.KeyID, activate bool) {
	e.t.Helper()
	key := func(owner byte) (k keys.DataKey) {
		for i := range k.Key {
			k.Key[i] = byte(id)<<4 | owner
		}
		return k
	}
	err := e.child.Send(1, &pipe.InstallKey{
		KeyID: id, Epoch: keys.Epoch(id), AEAD: keys.AES256GCM, Send: key(e.number), Receive: key(1 - e.number),
		SendIndex: wire.Index(id)<<4 + wire.Index(2-e.number), ReceiveIndex: wire.Index(id)<<4 + wire.Index(1+e.number),
		Activate: activate,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	if m := <-e.installed; m != (pipe.Installed{KeyID: id}) {
		e.t.Fatalf("%+v", m)
	}
}

// restart hands over from the child to another one, as two programs would.
func (e *end) restart() (keys int) {
	e.t.Helper()
	state, err := e.child.HandOver(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	record, err := state.Encode()
	if err != nil {
		e.t.Fatal(err)
	}
	state.Wipe()
	if state, err = supervisor.DecodeState(record); err != nil {
		e.t.Fatal(err)
	}
	e.start(&state)
	return len(state.Keys)
}

// echo answers datagrams in the present namespace.
func echo(t *testing.T, address string) {
	t.Helper()
	c, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.UDPConn).SetReadBuffer(4 << 20) // as far as the system allows
	t.Cleanup(func() { _ = c.Close() })
	go func() { // ends when c is closed
		p := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(p)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(p[:n], from)
		}
	}()
}

// inFlight is how many datagrams may be under way: less than the device's queue and each
// socket's buffer hold, so that a program that the machine keeps waiting loses none.
const inFlight = 120

// A stream is numbered datagrams that should come back, each once.
type stream struct {
	conn  net.Conn
	sent  int
	back  atomic.Int64 // so many came back
	times []int
	last  time.Time
	gap   time.Duration // the longest without an answer
	wg    sync.WaitGroup
}

// newStream sends until stop is closed.
func newStream(t *testing.T, stop <-chan struct{}) *stream {
	t.Helper()
	c, err := net.Dial("udp4", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.UDPConn).SetReadBuffer(4 << 20)
	s := &stream{conn: c, times: make([]int, 1<<20)}
	s.begin(t)
	s.wg.Go(func() { s.send(stop) })
	s.wg.Go(s.receive)
	return s
}

// begin waits until the tunnel carries something.
func (s *stream) begin(t *testing.T) {
	t.Helper()
	for range 100 {
		_, _ = s.conn.Write([]byte{0})
		_ = s.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := s.conn.Read(make([]byte, 1)); err == nil && n == 1 {
			_ = s.conn.SetReadDeadline(time.Time{})
			s.last = time.Now()
			return
		}
	}
	t.Fatal("nothing comes back")
}

func (s *stream) send(stop <-chan struct{}) {
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	p := make([]byte, 1300)
	for {
		select {
		case <-tick.C:
		case <-stop:
			s.awaitRest()
			return
		}
		if s.sent-int(s.back.Load()) >= inFlight {
			continue
		}
		binary.BigEndian.PutUint32(p, uint32(s.sent))
		_, _ = s.conn.Write(p[:4+s.sent*37%1200])
		s.sent++
	}
}

// awaitRest waits for what is under way, and a moment more for what comes twice, and ends receive.
func (s *stream) awaitRest() {
	for end := time.Now().Add(time.Minute); int(s.back.Load()) < s.sent && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
}

func (s *stream) receive() {
	p := make([]byte, 1<<16)
	for {
		n, err := s.conn.Read(p)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil || n < 4 {
			continue
		}
		s.times[binary.BigEndian.Uint32(p)]++
		s.back.Add(1)
		s.gap = max(s.gap, time.Since(s.last))
		s.last = time.Now()
	}
}

func TestRestartsOfRealChildrenLoseNothing(t *testing.T) {
	ends := newTunnel(t)
	for _, e := range ends {
		e.start(nil)
	}
	ends[1].install(1, false)
	ends[0].install(1, true)
	stop := make(chan struct{})
	s := newStream(t, stop)
	const restarts = 20
	var took []time.Duration
	for i := range restarts {
		time.Sleep(50 * time.Millisecond)
		if i == restarts/2 { // a new key between two restarts
			ends[1].install(2, false)
			ends[0].install(2, true)
		}
		began := time.Now()
		if n := ends[i%2].restart(); n != 1 && i < restarts/2 {
			t.Errorf("%d keys", n)
		}
		took = append(took, time.Since(began))
	}
	close(stop)
	s.wg.Wait()
	slices.Sort(took)
	t.Logf("%d datagrams, longest gap %s; restart: median %s, longest %s", s.sent, s.gap, took[restarts/2], took[restarts-1])
	for i, n := range s.times[:s.sent] {
		if n != 1 {
			t.Fatalf("datagram %d of %d came back %d times", i, s.sent, n)
		}
	}
	for _, e := range ends {
		if state, err := e.child.HandOver(t.Context()); err != nil || state.End.SendKey != 2 || state.End.Totals.Drops != (pipe.Drops{NoKey: state.End.Totals.Drops.NoKey}) {
			t.Errorf("end %d: %+v, %v", e.number, state.End, err)
		}
	}
}
