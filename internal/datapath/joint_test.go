package datapath

import (
	"errors"
	"net/netip"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/tuntap"
	"tund/internal/udp"
	"tund/internal/wire"
)

func TestACrowdedSocketStopsOneDirectionOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, pipe.ModeTUN, pipe.Configure{})
		p.rekey(1)
		const packets = 200
		large := packet("", make([]byte, 1300)...)
		p.b.socket.crowd(true)
		for range packets {
			p.b.device.put(large)
		}
		synctest.Wait()
		if left := p.b.device.waiting(); left == 0 || left == packets {
			t.Errorf("%d of %d packets wait", left, packets)
		}
		p.a.device.got()
		p.a.device.put(packet(""))
		synctest.Wait()
		if got := p.b.device.got(); len(got) != 1 {
			t.Errorf("%d packets the other way", len(got))
		}
		p.b.socket.crowd(false)
		synctest.Wait()
		if left := p.b.device.waiting(); left != 0 {
			t.Errorf("%d packets wait still", left)
		}
	})
}

func TestNeitherDirectionWaitsForTheEndOfTheOther(t *testing.T) {
	o, i, d := newLoops(t, keys.AES256GCM)
	j := joint{out: o, in: i}
	d.next = sealing(o, wire.TypeData, d.packet)
	const endless = 1 << 20
	d.packets, d.received = endless, endless
	if err := j.receive(); err != nil {
		t.Fatal(err)
	}
	if err := j.send(); err != nil {
		t.Fatal(err)
	}
	if got := endless - d.received; got != turnReceipts {
		t.Errorf("%d receipts", got)
	}
	if got := endless - d.packets; got == 0 || got > jointBatches*batchPackets {
		t.Errorf("%d packets", got)
	}
}

func TestBothDirectionsAllocateNothing(t *testing.T) {
	o, i, d := newLoops(t, keys.AES256GCM)
	j := joint{out: o, in: i}
	d.next = sealing(o, wire.TypeData, d.packet)
	allocs := testing.AllocsPerRun(100, func() {
		d.packets, d.received = batchPackets, turnReceipts
		if err := errors.Join(j.receive(), j.send()); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// pairUnderTest is a Pair of a real device and a real socket.
type pairUnderTest struct {
	*Pair
	t      *testing.T
	peer   *udp.Port
	device *tuntap.Port
}

func newPairUnderTest(t *testing.T) pairUnderTest {
	t.Helper()
	enterNamespace(t)
	device := openDevice(t, "tun0", "10.0.0.1/24", tuntap.TUN)
	for { // what the kernel itself sends at first
		_, err := device.Read(make([]byte, 2000))
		if errors.Is(err, tuntap.ErrWouldBlock) {
			break
		}
	}
	sockets := openSockets(t)
	return pairUnderTest{NewPair(device, sockets[0], time.Millisecond), t, sockets[1], device}
}

func (p pairUnderTest) expect(stop int, crowded, device, socket bool, want error) {
	p.t.Helper()
	gotDevice, gotSocket, err := p.Wait(stop, crowded)
	if gotDevice != device || gotSocket != socket || !errors.Is(err, want) {
		p.t.Errorf("device %v, socket %v, %v; want %v, %v, %v", gotDevice, gotSocket, err, device, socket, want)
	}
}

func TestAPairWaitsForEither(t *testing.T) {
	p := newPairUnderTest(t)
	if _, err := p.peer.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	p.expect(-1, false, false, true, nil)
	p.expect(-1, true, true, true, nil) // the socket takes more
	if _, _, err := p.socket.Recv(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = exec.Command("ping", "-c1", "-W1", "10.0.0.2").Run() // nobody answers
	p.expect(-1, false, true, false, nil)
	stop := newStop(t)
	if err := stop.Close(); err != nil {
		t.Fatal(err)
	}
	p.expect(stop.FD(), false, false, false, tuntap.ErrStopped)
	ip(t, "link del tun0")
	p.expect(-1, false, false, false, errDeviceGone)
}

// Datagrams to an address that no neighbour has fill the buffer until that is known.
func TestAPairWaitsWhileTheSocketIsCrowded(t *testing.T) {
	p := newPairUnderTest(t)
	ip(t, "link add wire0 type veth peer name wire1")
	ip(t, "addr add 10.9.0.1/24 dev wire0")
	ip(t, "link set wire0 up")
	ip(t, "link set wire1 up")
	s, err := udp.NewSocket()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := unix.SetsockoptInt(int(s.File().Fd()), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(netip.AddrPort{}, netip.MustParseAddrPort("10.9.0.2:9")); err != nil {
		t.Fatal(err)
	}
	socket, err := udp.FromFD(int(s.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if socket.Crowded() {
		t.Fatal("crowded with nothing to send")
	}
	for range 2 {
		if ok, err := socket.Send(make([]byte, 1400)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if !socket.Crowded() {
		t.Fatal("not crowded")
	}
	p.Pair = NewPair(p.device, socket, time.Millisecond)
	done := make(chan struct{})
	go func() { // ends when the kernel has given up
		defer close(done)
		p.expect(-1, true, true, false, nil)
	}()
	select {
	case <-done:
		t.Fatal("did not wait")
	case <-time.After(100 * time.Millisecond):
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("waits still")
	}
	if socket.Crowded() {
		t.Error("crowded still")
	}
}
