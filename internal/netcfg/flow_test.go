package netcfg_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/netcfg"
	"tund/internal/tuntap"
)

// flow sends numbered UDP packets over dev0 in both directions, from and to one of
// its addresses, and counts what arrives:
//
//	test socket at own  --- outbound --->  port.Read
//	test socket at own  <--- inbound ----  port.Write
type flow struct {
	t      *testing.T
	port   *tuntap.Port
	socket int
	own    netip.Addr
	far    netip.Addr

	stop     chan struct{}
	running  sync.WaitGroup
	sent     int // outbound
	read     int
	written  int // inbound
	received int
}

func startFlow(t *testing.T, d *tuntap.Device, own, far string) *flow {
	t.Helper()
	port, err := tuntap.FromFD(int(d.File().Fd()), tuntap.TUN)
	if err != nil {
		t.Fatal(err)
	}
	f := &flow{t: t, port: port, own: netip.MustParseAddr(own), far: netip.MustParseAddr(far), stop: make(chan struct{})}
	f.socket, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(f.socket, &unix.SockaddrInet4{Addr: f.own.As4(), Port: 7000}); err != nil {
		t.Fatal(err)
	}
	f.running.Go(f.outbound)
	f.running.Go(f.inbound)
	return f
}

func (f *flow) stopped() bool {
	select {
	case <-f.stop:
		return true
	default:
		return false
	}
}

func (f *flow) outbound() {
	b := make([]byte, 2000)
	to := &unix.SockaddrInet4{Addr: f.far.As4(), Port: 9}
	for last := false; !last; {
		last = f.stopped()
		if err := unix.Sendto(f.socket, []byte("outbound"), 0, to); err != nil {
			f.t.Errorf("packet %d from %s: %v", f.sent, f.own, err)
		}
		f.sent++
		f.readAll(b)
	}
	for deadline := time.Now().Add(long); f.read < f.sent && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		f.readAll(b)
	}
}

// readAll counts what lies in the device's queue.
func (f *flow) readAll(b []byte) {
	for {
		n, err := f.port.Read(b)
		if err != nil {
			return
		}
		b := b[tuntap.HeaderSize:]
		if n > tuntap.HeaderSize+20 && b[9] == unix.IPPROTO_UDP && [4]byte(b[12:16]) == f.own.As4() && [4]byte(b[16:20]) == f.far.As4() {
			f.read++
		}
	}
}

func (f *flow) inbound() {
	packet, b := append(make([]byte, tuntap.HeaderSize), f.packet()...), make([]byte, 100)
	for last := false; !last; {
		last = f.stopped()
		if _, err := f.port.Write(packet); err != nil {
			f.t.Errorf("packet %d to %s: %v", f.written, f.own, err)
		}
		f.written++
		for range 10 { // the kernel may deliver a moment later
			if _, _, err := unix.Recvfrom(f.socket, b, 0); err == nil {
				f.received++
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	for deadline := time.Now().Add(long); f.received < f.written && time.Now().Before(deadline); {
		if _, _, err := unix.Recvfrom(f.socket, b, 0); err == nil {
			f.received++
		} else if !errors.Is(err, unix.EAGAIN) {
			f.t.Error(err)
		}
	}
}

// packet is IPv4 and UDP without UDP checksum, from port 9 of far to port 7000 of own.
func (f *flow) packet() []byte {
	p := append([]byte{0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0}, f.far.AsSlice()...)
	p = append(p, f.own.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	return append(p, 0, 9, 7000>>8, 7000&0xff, 0, 12, 0, 0, 'i', 'n', '!', '!')
}

// end stops the flow and tells what was lost.
func (f *flow) end() {
	f.t.Helper()
	close(f.stop)
	f.running.Wait()
	_ = unix.Close(f.socket)
	if f.read != f.sent || f.received != f.written || f.sent == 0 || f.written == 0 {
		f.t.Errorf("outbound %d of %d, inbound %d of %d", f.read, f.sent, f.received, f.written)
	}
}

// Each round of a change makes the flow's address a primary one in a new way.
func TestPacketsFlowWhileOtherSettingsChange(t *testing.T) {
	const own = "10.1.0.2"
	tests := []struct {
		name  string
		steps []string
	}{
		{"the primary address goes", []string{"10.1.0.1/24 10.1.0.2/24", "10.1.0.2/24"}},
		{"two primaries go", []string{"10.1.0.1/24 10.1.0.2/24 10.1.0.3/24", "10.1.0.3/24 10.1.0.2/24", "10.1.0.2/24"}},
		{"the source of a route goes", []string{
			"10.1.0.1/24 10.1.0.2/24 via 10.20.0.0/16", "10.1.0.2/24 10.1.0.7/24 via 10.20.0.0/16", "10.1.0.2/24 via 10.21.0.0/16",
		}},
		{"others come and go", []string{
			"10.1.0.2/24 mtu 1400", "10.1.0.2/24 10.3.0.1/24 fd77::1/64 via 10.20.0.0/16 fd20::/32 mtu 1300", "10.1.0.2/24 fd77::2/64 mtu 1450",
		}},
		{"its own network changes", []string{"10.1.0.1/24 10.1.0.2/24", "10.1.0.1/24 10.1.0.2/16", "10.1.0.2/24"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			enterNamespace(t)
			d := newDevice(t, tuntap.TUN)
			sysctl(t, "ipv4/conf/dev0/promote_secondaries", "0")
			m := newManager(t)
			for range 20 {
				apply(t, m, settings(t, tt.steps[0]))
				f := startFlow(t, d, own, "10.1.0.99")
				changeInSteps(t, m, tt.steps[1:])
				f.end()
				apply(t, m, settings(t, ""))
			}
		})
	}
}

func changeInSteps(t *testing.T, m *netcfg.Manager, steps []string) {
	t.Helper()
	for _, text := range steps {
		<-time.After(2 * time.Millisecond)
		next := settings(t, text)
		wantMissing(t, m.Set(next))
		checkState(t, next, "")
	}
}
