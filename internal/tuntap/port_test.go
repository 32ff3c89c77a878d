package tuntap_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/tuntap"
	"tund/internal/tuntap/tuntaptest"
)

// port is what both the real Port and the fake offer.
type port interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Wait(stop int) error
	FD() int
}

// bare reads and writes packets behind a header that is all zero.
type bare struct {
	port
	in, out [1 << 12]byte
}

func (b *bare) Read(p []byte) (int, error) {
	n, err := b.port.Read(b.in[:tuntap.HeaderSize+len(p)+1])
	if err != nil {
		return 0, err
	}
	if h := [tuntap.HeaderSize]byte(b.in[:]); h != [tuntap.HeaderSize]byte{} {
		return 0, fmt.Errorf("header %x", h)
	}
	return copy(p, b.in[tuntap.HeaderSize:n]), nil
}

func (b *bare) Write(p []byte) (int, error) {
	n := copy(b.out[tuntap.HeaderSize:], p)
	written, err := b.port.Write(b.out[:tuntap.HeaderSize+n])
	return max(0, written-tuntap.HeaderSize), err
}

// rig is a port with the kernel's side of it in the test's hands.
type rig struct {
	port
	payload func(n int) []byte // a packet of length n that the device takes
	send    func([]byte)       // to be read by the port
	receive func() []byte      // what the port wrote
	down    func()
	remove  func()
}

// rigs are all the kinds of port that must keep the same promises.
func rigs(t *testing.T, test func(t *testing.T, r rig)) {
	for _, mode := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s with old kernel %v", mode, old), func(t *testing.T) {
				test(t, newDeviceRig(t, mode, old))
			})
		}
	}
	t.Run("fake", func(t *testing.T) { test(t, newFakeRig(t)) })
}

func newFakeRig(t *testing.T) rig {
	t.Helper()
	p, err := tuntaptest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return rig{
		port: &bare{port: p}, payload: ipPacket, send: p.Send, receive: p.Receive,
		down: func() { p.SetDown(true) }, remove: p.Remove,
	}
}

// newDeviceRig sees the kernel's side of a real device through a packet socket.
func newDeviceRig(t *testing.T, mode tuntap.Mode, old bool) rig {
	t.Helper()
	enterNamespace(t)
	d := open(t, tuntap.Options{Name: "dev0", Mode: mode, Queue: 1000})
	ip(t, "link set dev0 up")
	p, err := tuntap.FromFD(int(d.File().Fd()), mode)
	if err != nil {
		t.Fatal(err)
	}
	if old {
		tuntap.ForgetNowait(p)
	}
	s := newPacketSocket(t, d.Index())
	payload := ipPacket
	if mode == tuntap.TAP {
		payload = frame
	}
	return rig{
		port: &bare{port: p}, payload: payload, send: s.send, receive: s.receive,
		down: func() { ip(t, "link set dev0 down") }, remove: func() { ip(t, "link del dev0") },
	}
}

type packetSocket struct {
	t     *testing.T
	fd    int
	index int
}

func newPacketSocket(t *testing.T, index int) *packetSocket {
	t.Helper()
	const all = unix.ETH_P_ALL << 8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		t.Fatal(err)
	}
	return &packetSocket{t: t, fd: fd, index: index}
}

func (s *packetSocket) send(packet []byte) {
	s.t.Helper()
	const ipv4 = unix.ETH_P_IP >> 8 // in network byte order
	if err := unix.Sendto(s.fd, packet, 0, &unix.SockaddrLinklayer{Protocol: ipv4, Ifindex: s.index}); err != nil {
		s.t.Fatalf("send %d bytes through the packet socket: %v", len(packet), err)
	}
}

func (s *packetSocket) receive() []byte {
	s.t.Helper()
	b := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			s.t.Fatalf("receive from the packet socket: %v", err)
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
			return b[:n]
		}
	}
}

// ipPacket returns an IPv4 packet of n bytes, from 10.1.0.2 to 10.1.0.1, protocol 253.
func ipPacket(n int) []byte {
	p := make([]byte, n)
	copy(p, []byte{0x45, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 64, 253, 0, 0, 10, 1, 0, 2, 10, 1, 0, 1})
	for i := 20; i < n; i++ {
		p[i] = byte(i)
	}
	return p
}

// frame returns a broadcast Ethernet frame of n bytes that holds an IPv4 packet.
func frame(n int) []byte {
	header := []byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 0}
	return append(header, ipPacket(n-len(header))...)
}

func TestPortReadsWhatTheKernelSends(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		b := make([]byte, 2000)
		for _, n := range []int{60, 100, 1500} {
			want := r.payload(n)
			r.send(want)
			if err := r.Wait(-1); err != nil {
				t.Fatal(err)
			}
			got, err := r.Read(b)
			if err != nil || !bytes.Equal(b[:got], want) {
				t.Errorf("read %x, %v; want %x", b[:got], err, want)
			}
		}
		if n, err := r.Read(b); !errors.Is(err, tuntap.ErrWouldBlock) {
			t.Errorf("read of an empty queue: %d, %v", n, err)
		}
	})
}

func TestPortWritesWhatTheKernelReceives(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		for _, n := range []int{60, 100, 1500} {
			want := r.payload(n)
			if got, err := r.Write(want); got != n || err != nil {
				t.Fatalf("write: %d, %v", got, err)
			}
			if got := r.receive(); !bytes.Equal(got, want) {
				t.Errorf("the kernel received %x; want %x", got, want)
			}
		}
	})
}

func TestPortReportsAPacketLongerThanTheBufferAndReadsOn(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		b := make([]byte, 100)
		r.send(r.payload(101))
		r.send(r.payload(100))
		if n, err := r.Read(b); !errors.Is(err, tuntap.ErrTooLong) {
			t.Errorf("a packet of 101 bytes: %d, %v", n, err)
		}
		if n, err := r.Read(b); n != 100 || err != nil {
			t.Errorf("a packet of 100 bytes: %d, %v", n, err)
		}
	})
}

func TestPortDropsWritesWhileTheLinkIsDown(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		r.down()
		if n, err := r.Write(r.payload(100)); n != 0 || !errors.Is(err, tuntap.ErrDown) {
			t.Errorf("write: %d, %v", n, err)
		}
		if n, err := r.Read(make([]byte, 2000)); !errors.Is(err, tuntap.ErrWouldBlock) {
			t.Errorf("read: %d, %v", n, err)
		}
	})
}

func TestPortRefusesAnEmptyPacket(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		if _, err := r.Write(nil); !errors.Is(err, tuntap.ErrRefused) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestPortRefusesWhatTheKernelRefuses(t *testing.T) {
	for mode, packet := range map[tuntap.Mode][]byte{
		tuntap.TUN: {0x35, 0, 0, 20, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, // version 3
		tuntap.TAP: make([]byte, 13),                                                    // no whole header
	} {
		t.Run(mode.String(), func(t *testing.T) {
			r := newDeviceRig(t, mode, false)
			if _, err := r.Write(packet); !errors.Is(err, tuntap.ErrRefused) {
				t.Errorf("write: %v", err)
			}
		})
	}
}

func TestPortSaysThatItsInterfaceIsGone(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		r.remove()
		if _, err := r.Read(make([]byte, 2000)); !errors.Is(err, tuntap.ErrGone) {
			t.Errorf("read: %v", err)
		}
		if _, err := r.Write(r.payload(100)); !errors.Is(err, tuntap.ErrGone) {
			t.Errorf("write: %v", err)
		}
		if err := r.Wait(-1); !errors.Is(err, tuntap.ErrGone) {
			t.Errorf("wait: %v", err)
		}
	})
}

func TestWaitEndsWhenTheInterfaceIsRemoved(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		testWaitEnds(t, r, -1, r.remove, tuntap.ErrGone)
	})
}

func TestWaitEndsWhenThePipeIsClosed(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		stop, stopper := pipe(t)
		testWaitEnds(t, r, int(stop.Fd()), func() { _ = stopper.Close() }, tuntap.ErrStopped)
	})
}

func TestWaitEndsWhenThePipeIsWritten(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		stop, stopper := pipe(t)
		testWaitEnds(t, r, int(stop.Fd()), func() { _, _ = stopper.Write([]byte{1}) }, tuntap.ErrStopped)
	})
}

func TestWaitEndsWhenAPacketComes(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		stop, _ := pipe(t)
		testWaitEnds(t, r, int(stop.Fd()), func() { r.send(r.payload(100)) }, nil)
	})
}

func TestWaitPrefersToStop(t *testing.T) {
	rigs(t, func(t *testing.T, r rig) {
		stop, stopper := pipe(t)
		r.send(r.payload(100))
		if err := stopper.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.Wait(int(stop.Fd())); !errors.Is(err, tuntap.ErrStopped) {
			t.Errorf("wait: %v", err)
		}
	})
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// testWaitEnds starts Wait, gives it time to block, and does what must end it.
func testWaitEnds(t *testing.T, r rig, stop int, act func(), want error) {
	t.Helper()
	ended := make(chan error, 1) // so that the goroutine ends though nobody listens
	go func() { ended <- r.Wait(stop) }()
	select {
	case err := <-ended:
		t.Fatalf("wait did not block: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	act()
	select {
	case err := <-ended:
		if !errors.Is(err, want) {
			t.Errorf("wait: %v; want %v", err, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("wait goes on")
	}
}

func TestPortDoesNotAllocate(t *testing.T) {
	for _, old := range []bool{false, true} {
		for _, mode := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
			t.Run(fmt.Sprintf("%s with old kernel %v", mode, old), func(t *testing.T) {
				testAllocations(t, newDeviceRig(t, mode, old))
			})
		}
	}
}

func testAllocations(t *testing.T, r rig) {
	stop, _ := pipe(t)
	stopFD := int(stop.Fd())
	packet, b := r.payload(1000), make([]byte, 2000)
	bad := make([]byte, 10)
	const runs = 200
	for range runs + 1 {
		r.send(packet)
	}
	allocs := testing.AllocsPerRun(runs, func() {
		if err := r.Wait(stopFD); err != nil {
			t.Error(err)
		}
		if n, err := r.Read(b); n != len(packet) || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
		if _, err := r.Write(packet); err != nil {
			t.Error(err)
		}
		if _, err := r.Write(bad); !errors.Is(err, tuntap.ErrRefused) {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a packet", allocs)
	}
	if allocs := testing.AllocsPerRun(runs, func() { _, _ = r.Read(b) }); allocs != 0 {
		t.Errorf("%v allocations a read of nothing", allocs)
	}
}

func TestFromFDRefusesWhatIsNoDevice(t *testing.T) {
	enterNamespace(t)
	stop, _ := pipe(t)
	d := open(t, tuntap.Options{Name: "tun0", Mode: tuntap.TUN})
	for what, open := range map[string]func() (*tuntap.Port, error){
		"a pipe":                func() (*tuntap.Port, error) { return tuntap.FromFD(int(stop.Fd()), tuntap.TUN) },
		"a closed descriptor":   func() (*tuntap.Port, error) { return tuntap.FromFD(9999, tuntap.TUN) },
		"a tun where a tap was": func() (*tuntap.Port, error) { return tuntap.FromFD(int(d.File().Fd()), tuntap.TAP) },
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

// The kernel must do sums and segmentation itself while no offload is in force.
func TestPacketsOfTheLocalStackComeWhole(t *testing.T) {
	enterNamespace(t)
	d := open(t, tuntap.Options{Name: "dev0", Mode: tuntap.TUN})
	ip(t, "addr add 10.1.0.1/24 dev dev0")
	ip(t, "link set dev0 up")
	p, err := tuntap.FromFD(int(d.File().Fd()), tuntap.TUN)
	if err != nil {
		t.Fatal(err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(s) })
	if err := unix.Sendto(s, make([]byte, 1000), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{10, 1, 0, 2}}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, err := p.Read(b)
	if n != tuntap.HeaderSize+1028 || err != nil {
		t.Fatalf("read: %d, %v", n, err)
	}
	if h := b[:tuntap.HeaderSize]; !bytes.Equal(h, make([]byte, 10)) {
		t.Errorf("header %x", h)
	}
}
