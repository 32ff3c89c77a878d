package datapath

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
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

// Two datapaths with real devices over a real wire, and a host behind the second:
//
//	first               tunnel               second                 third
//	10.0.0.1 ── device a ┈┈┈┈┈┈┈┈ device b ── 10.0.0.2
//	     left0 ═════ outer wire ═════ right0   10.3.0.2 ─ near0 ═══ far0 ─ 10.3.0.3
//	     192.0.2.1              192.0.2.2

// hosts are the namespaces, as open files.
type hosts struct {
	t                    *testing.T
	first, second, third *os.File
}

func newHosts(t *testing.T) *hosts {
	t.Helper()
	h := &hosts{t: t}
	for _, ns := range []**os.File{&h.third, &h.second, &h.first} {
		enterNamespace(t)
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		*ns = f
	}
	h.wire("left0", "192.0.2.1/24", h.first, "right0", "192.0.2.2/24", h.second)
	h.wire("near0", "10.3.0.2/24", h.second, "far0", "10.3.0.3/24", h.third)
	return h
}

// in runs f in a namespace and comes back to the first.
func (h *hosts) in(ns *os.File, f func()) {
	h.t.Helper()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(h.first.Fd()), unix.CLONE_NEWNET); err != nil {
			h.t.Fatal(err)
		}
	}()
	f()
}

func (h *hosts) wire(a, addressA string, nsA *os.File, b, addressB string, nsB *os.File) {
	h.t.Helper()
	h.in(nsA, func() {
		ip(h.t, fmt.Sprintf("link add %s type veth peer name %s netns /proc/%d/fd/%d", a, b, os.Getpid(), nsB.Fd()))
		ip(h.t, fmt.Sprintf("addr add %s dev %s", addressA, a))
		ip(h.t, "link set up dev "+a)
	})
	h.in(nsB, func() {
		ip(h.t, fmt.Sprintf("addr add %s dev %s", addressB, b))
		ip(h.t, "link set up dev "+b)
	})
}

func run(t *testing.T, program, args string) {
	t.Helper()
	if out, err := exec.Command(program, strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", program, args, err, out)
	}
}

// end is what one datapath runs on.
type end struct {
	device   *tuntap.Device
	socket   *udp.Socket
	offloads pipe.Offloads
}

// open makes device and socket in the present namespace.
func (h *hosts) open(name, address string, mode tuntap.Mode, o pipe.Offloads) end {
	h.t.Helper()
	device, err := tuntap.Open(tuntap.Options{Name: name, Mode: mode, Queue: 1000, Offloads: deviceOffloads(o)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = device.Close() })
	ip(h.t, fmt.Sprintf("addr add %s dev %s", address, name))
	ip(h.t, fmt.Sprintf("link set dev %s up mtu 1400", name))
	socket, err := udp.NewSocket()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = socket.Close() })
	return end{device, socket, o}
}

func deviceOffloads(o pipe.Offloads) (d tuntap.Offloads) {
	for i, flag := range []tuntap.Offloads{
		tuntap.OffloadChecksum, tuntap.OffloadTSO4, tuntap.OffloadTSO6, tuntap.OffloadUSO4, tuntap.OffloadUSO6,
	} {
		if o>>i&1 != 0 {
			d |= flag
		}
	}
	return d
}

// start runs a datapath on e; me is 0 or 1.
func (e end) start(t *testing.T, me byte, mode pipe.Mode) *fakeParent {
	t.Helper()
	device, err := tuntap.FromFD(int(e.device.File().Fd()), tuntap.Mode(mode))
	if err != nil {
		t.Fatal(err)
	}
	socket, err := udp.FromFD(int(e.socket.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	parent, done := launch(t, mode, device, socket, me == 1)
	parent.tell(pipe.Configure{Mode: mode, KeyLifetime: time.Hour, Offloads: e.offloads})
	parent.tell(&pipe.InstallKey{
		KeyID: 1, Epoch: 1, AEAD: keys.AES256GCM, Send: dataKey(me, 1), Receive: dataKey(1-me, 1),
		SendIndex: wire.Index(1 + me), ReceiveIndex: wire.Index(2 - me), Activate: true,
		PartialCsum: e.offloads&pipe.OffloadPartialCsum != 0,
	})
	t.Cleanup(func() {
		_ = parent.w.Close()
		if err := <-done; err != nil {
			t.Errorf("datapath %d: %v", me, err)
		}
	})
	return parent
}

// tunnel joins first and second.
func (h *hosts) tunnel(mode pipe.Mode, o pipe.Offloads) (a, b *fakeParent) {
	h.t.Helper()
	local, remote := netip.MustParseAddrPort("192.0.2.1:7900"), netip.MustParseAddrPort("192.0.2.2:7900")
	first := h.open("a", "10.0.0.1/24", tuntap.Mode(mode), o)
	var second end
	h.in(h.second, func() {
		second = h.open("b", "10.0.0.2/24", tuntap.Mode(mode), o)
		if err := second.socket.Connect(remote, local); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil { // of this thread's namespace
			h.t.Fatal(err)
		}
	})
	if err := first.socket.Connect(local, remote); err != nil {
		h.t.Fatal(err)
	}
	ip(h.t, "route add 10.3.0.0/24 via 10.0.0.2")
	h.in(h.third, func() { ip(h.t, "route add 10.0.0.0/24 via 10.3.0.2") })
	a, b = first.start(h.t, 0, mode), second.start(h.t, 1, mode)
	waitActive(h.t, a)
	waitActive(h.t, b)
	return a, b
}

// realOffloads are the ways in which everything must be right.
var realOffloads = map[string]pipe.Offloads{
	"all on":               allOffloads | pipe.OffloadPartialCsum,
	"no partial checksums": allOffloads,
	"no USO":               allOffloads&^(pipe.OffloadUSO4|pipe.OffloadUSO6) | pipe.OffloadPartialCsum,
	"sockets off":          allOffloads&^(pipe.OffloadUDPGSO|pipe.OffloadUDPGRO) | pipe.OffloadPartialCsum,
	"all off":              0,
}

func TestRealTransfersArriveAsTheyWereSent(t *testing.T) {
	for _, mode := range []pipe.Mode{pipe.ModeTUN, pipe.ModeTAP} {
		for name, offloads := range realOffloads {
			t.Run(fmt.Sprintf("%v, %s", mode, name), func(t *testing.T) {
				h := newHosts(t)
				a, b := h.tunnel(mode, offloads)
				h.transfer(h.second, "10.0.0.2:9", 32<<20)
				h.bursts(h.second, "10.0.0.2:7")
				for _, s := range []pipe.Stats{ask(t, a), ask(t, b)} {
					if s.Offloads != offloads || s.Fallbacks.Sends+s.Fallbacks.Writes != 0 {
						t.Errorf("in force %v, %+v", s.Offloads.Names(), s.Fallbacks)
					}
					completed := offloads&pipe.OffloadCsum != 0 && offloads&pipe.OffloadPartialCsum == 0
					if (s.Fallbacks.Checksums > 0) != completed {
						t.Errorf("%d checksums completed with %v", s.Fallbacks.Checksums, s.Offloads.Names())
					}
				}
			})
		}
	}
}

func TestRealTransfersSurviveAWireThatSegmentsAndLoses(t *testing.T) {
	for _, mode := range []pipe.Mode{pipe.ModeTUN, pipe.ModeTAP} {
		for _, wire := range []string{"gso off tso off gro off", "gso off tso off tx off", "gso on gro on"} {
			t.Run(fmt.Sprintf("%v, %s", mode, wire), func(t *testing.T) {
				h := newHosts(t)
				h.tunnel(mode, allOffloads|pipe.OffloadPartialCsum)
				run(t, "ethtool", "-K left0 "+wire)
				h.in(h.second, func() {
					run(t, "ethtool", "-K right0 "+wire)
					run(t, "nft", "add table netdev f")
					run(t, "nft", "add chain netdev f c { type filter hook ingress device right0 priority 0 ; }")
					run(t, "nft", "add rule netdev f c numgen random mod 200 == 0 counter drop")
				})
				h.transfer(h.second, "10.0.0.2:9", 8<<20)
			})
		}
	}
}

// The kernel completes what crossed with a partial checksum when it goes on to a wire
// that cannot: what arrives at the third host is right to the last bit.
func TestChecksumsAreRightOnAThirdHost(t *testing.T) {
	for _, mode := range []pipe.Mode{pipe.ModeTUN, pipe.ModeTAP} {
		t.Run(mode.String(), func(t *testing.T) {
			h := newHosts(t)
			h.tunnel(mode, allOffloads|pipe.OffloadPartialCsum)
			h.in(h.second, func() { run(t, "ethtool", "-K near0 tx off tso off gso off") })
			var capture *capture
			h.in(h.third, func() { capture = newCapture(t, "far0") })
			h.transfer(h.third, "10.3.0.3:9", 8<<20)
			h.bursts(h.third, "10.3.0.3:7")
			capture.check()
		})
	}
}

// ask returns a child's statistics.
func ask(t *testing.T, parent *fakeParent) pipe.Stats {
	t.Helper()
	parent.tell(pipe.GetStats{Seq: 1})
	for range 2000 {
		for _, m := range parent.heard() {
			if s, ok := m.(pipe.Stats); ok {
				return s
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no answer")
	return pipe.Stats{}
}

// transfer sends n bytes by TCP from the first host, and as many back.
func (h *hosts) transfer(to *os.File, address string, n int) {
	t := h.t
	t.Helper()
	var listener net.Listener
	h.in(to, func() {
		var err error
		if listener, err = net.Listen("tcp4", address); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = listener.Close() }()
	go func() { // ends with the connection, or the listener
		if c, err := listener.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	seed := [32]byte{1}
	sent, got := sha256.New(), sha256.New()
	written := make(chan error, 1)
	go func() { // ends with its copy
		_, err := io.CopyN(io.MultiWriter(c, sent), rand.NewChaCha8(seed), int64(n))
		written <- err
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	count, err := io.Copy(got, c)
	if err != nil || count != int64(n) {
		t.Fatalf("%d bytes of %d came back: %v", count, n, err)
	}
	if err := <-written; err != nil || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("what came back differs: %v", err)
	}
}

// bursts sends bursts of datagrams by one call each and wants all of them back.
func (h *hosts) bursts(to *os.File, address string) {
	t := h.t
	t.Helper()
	h.in(to, func() { echoAt(t, address) })
	conn, err := net.Dial("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	c := conn.(*net.UDPConn)
	defer func() { _ = c.Close() }()
	_ = c.SetReadBuffer(1 << 20)
	for _, size := range []int{1, 63, 64, 999, 1372} {
		for _, count := range []int{1, 2, 40, 64} {
			if size*count > 60000 {
				count = 60000 / size
			}
			sendBurst(t, c, size, count)
		}
	}
}

func sendBurst(t *testing.T, c *net.UDPConn, size, count int) {
	t.Helper()
	payload := noise(size*(count-1) + (size+1)/2)
	control := make([]byte, unix.CmsgSpace(2))
	control[0] = byte(unix.CmsgLen(2))
	control[8], control[12] = unix.SOL_UDP, unix.UDP_SEGMENT
	control[16], control[17] = byte(size), byte(size>>8)
	if _, _, err := c.WriteMsgUDP(payload, control, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, b := []byte{}, make([]byte, 2000)
	for i := range count {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("datagram %d of %d of %d bytes: %v", i, count, size, err)
		}
		got = append(got, b[:n]...)
	}
	if !bytes.Equal(got, payload) {
		t.Errorf("%d datagrams of %d bytes came back changed", count, size)
	}
}

// capture is a packet socket on a device.
type capture struct {
	t  *testing.T
	fd int
}

func newCapture(t *testing.T, device string) *capture {
	t.Helper()
	index, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL << 8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 128<<20)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index.Index}); err != nil {
		t.Fatal(err)
	}
	return &capture{t, fd}
}

// check looks at every packet that came in.
func (c *capture) check() {
	c.t.Helper()
	b := make([]byte, 1<<16)
	seen := map[byte]int{}
	for {
		n, from, err := unix.Recvfrom(c.fd, b, 0)
		if err != nil {
			break
		}
		l, ok := from.(*unix.SockaddrLinklayer)
		if !ok || l.Pkttype == unix.PACKET_OUTGOING || b[12] != 8 || b[13] != 0 {
			continue
		}
		p := b[14:n]
		if n > 1414 || sum(p[:20]) != 0 || sum(pseudoHeader(p, p[9], len(p)-20), p[20:]) != 0 {
			c.t.Fatalf("wrong packet of %d bytes: %x", n, p[:min(len(p), 60)])
		}
		seen[p[9]]++
	}
	if seen[6] < 5000 || seen[17] < 100 {
		c.t.Errorf("saw only %v", seen)
	}
}
