package datapath

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/tuntap"
	"tund/internal/udp"
	"tund/internal/wire"
)

// Two datapaths with real devices and sockets:
//
//	namespace 1                                       namespace 2
//	10.0.0.1 ── device a ── a ─┐              ┌─ b ── device b ── 10.0.0.2, echo
//	                           └─ loopback 1 ─┘

// stopPipe is a Stop for real descriptors.
type stopPipe struct {
	r, w *os.File
	fd   int
}

func newStop(t *testing.T) *stopPipe {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return &stopPipe{r: r, w: w, fd: int(r.Fd())}
}

func (s *stopPipe) FD() int      { return s.fd }
func (s *stopPipe) Close() error { return s.w.Close() }

// enterNamespace moves the test to a new network namespace, which ends with the
// goroutine's thread: it is never unlocked.
func enterNamespace(t *testing.T) {
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

// openDevice makes a device with an address in the present namespace.
func openDevice(t *testing.T, name, address string, mode tuntap.Mode) *tuntap.Port {
	t.Helper()
	device, err := tuntap.Open(tuntap.Options{Name: name, Mode: mode, Queue: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = device.Close() })
	ip(t, fmt.Sprintf("addr add %s dev %s", address, name))
	ip(t, fmt.Sprintf("link set dev %s up mtu 9000", name))
	port, err := tuntap.FromFD(int(device.File().Fd()), mode)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// openSockets makes two sockets that are connected to each other.
func openSockets(t *testing.T) (ports [2]*udp.Port) {
	t.Helper()
	var sockets [2]*udp.Socket
	var addresses [2]netip.AddrPort
	for i := range sockets {
		s, err := udp.NewSocket()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		if err := s.Bind(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
			t.Fatal(err)
		}
		sockets[i], addresses[i] = s, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.LocalPort())
	}
	for i, s := range sockets {
		if err := s.Connect(addresses[i], addresses[1-i]); err != nil {
			t.Fatal(err)
		}
		port, err := udp.FromFD(int(s.File().Fd()))
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = port
	}
	return ports
}

// runReal starts a datapath on real descriptors with one key; me is 0 or 1.
func runReal(t *testing.T, me byte, mode pipe.Mode, device *tuntap.Port, socket *udp.Port) (*fakeParent, chan error) {
	t.Helper()
	parent, done := launch(t, mode, device, socket, me == 1)
	parent.tell(pipe.Configure{Mode: mode, KeyLifetime: time.Hour})
	parent.tell(&pipe.InstallKey{
		KeyID: 1, Epoch: 1, AEAD: keys.AES256GCM, Send: dataKey(me, 1), Receive: dataKey(1-me, 1),
		SendIndex: wire.Index(1 + me), ReceiveIndex: wire.Index(2 - me), Activate: true,
	})
	return parent, done
}

// launch starts a datapath on real descriptors, greeted but not configured. It ends when
// its parent's pipe does.
func launch(t *testing.T, mode pipe.Mode, device *tuntap.Port, socket *udp.Port, joint bool) (*fakeParent, chan error) {
	t.Helper()
	parent, child := newPipes(t)
	start := time.Now()
	o := Options{
		Log: slog.New(slog.DiscardHandler), Mode: mode, Device: device, Socket: socket, Pipe: child, Stop: newStop(t),
		Now: func() time.Duration { return time.Since(start) },
	}
	if joint {
		o.Both = NewPair(device, socket, time.Millisecond)
	}
	path, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- path.Run(context.Background()) }()
	go parent.listen()
	parent.tell(pipe.Hello{Version: pipe.Version})
	return parent, done
}

func TestRealDevicesAndSocketsCarryPackets(t *testing.T) {
	for _, mode := range []pipe.Mode{pipe.ModeTUN, pipe.ModeTAP} {
		t.Run(mode.String(), func(t *testing.T) { realTunnel(t, mode) })
	}
}

func realTunnel(t *testing.T, mode pipe.Mode) {
	enterNamespace(t)
	sockets := openSockets(t)
	a := openDevice(t, "a", "10.0.0.1/24", tuntap.Mode(mode))
	first, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	enterNamespace(t)
	b := openDevice(t, "b", "10.0.0.2/24", tuntap.Mode(mode))
	echoAt(t, "10.0.0.2:7")
	if err := unix.Setns(int(first.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	parentA, doneA := runReal(t, 0, mode, a, sockets[0])
	parentB, doneB := runReal(t, 1, mode, b, sockets[1])
	waitActive(t, parentA)
	waitActive(t, parentB)
	call(t, parentA)
	parentA.tell(pipe.Stop{})
	_ = parentB.w.Close()
	for i, done := range []chan error{doneA, doneB} {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("datapath %d: %v", i, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("datapath %d does not end", i)
		}
	}
}

// waitActive waits until the child has heard its peer.
func waitActive(t *testing.T, parent *fakeParent) {
	t.Helper()
	for range 2000 {
		if slices.Contains(parent.heard(), pipe.Message(pipe.KeyActive{KeyID: 1})) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the key was never active")
}

// echoAt answers datagrams in the present namespace.
func echoAt(t *testing.T, address string) {
	t.Helper()
	c, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.UDPConn).SetReadBuffer(1 << 20) // as far as the system allows
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

// call sends datagrams of many sizes through the tunnel and wants them back.
func call(t *testing.T, parent *fakeParent) {
	t.Helper()
	c, err := net.Dial("udp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	got := make([]byte, 1<<16)
	for size := 1; size < 8900; size += 89 {
		want := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:n], want) {
			parent.tell(pipe.GetStats{})
			time.Sleep(100 * time.Millisecond)
			t.Fatalf("size %d: %d bytes, %v; child said %+v", size, n, err, parent.heard())
		}
	}
}
