package segment_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/segment"
)

// namespace runs functions in a network namespace of its own.
type namespace struct {
	t    *testing.T
	work chan func()
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	n := &namespace{t: t, work: make(chan func())}
	ready := make(chan error)
	go func() { // ends with the test, and its thread and namespace with it
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		ready <- err
		for f := range n.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("unshare: %v", err)
	}
	t.Cleanup(func() { close(n.work) })
	// No router solicitations among the packets of the test.
	n.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/router_solicitations", []byte("0"), 0)
	})
	n.do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0) })
	n.ip("link set lo up")
	return n
}

func (n *namespace) do(f func() error) {
	n.t.Helper()
	done := make(chan error)
	n.work <- func() { done <- f() }
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

func (n *namespace) ip(args string) {
	n.t.Helper()
	n.do(func() error {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			return errors.New(args + ": " + string(out))
		}
		return nil
	})
}

// waitFor waits until the kernel, in its own time, has made a route.
func (n *namespace) waitFor(route string) {
	n.t.Helper()
	n.do(func() error {
		for range 2000 {
			out, err := exec.Command("ip", "-6", "route", "show", "table", "local").Output()
			if err != nil || strings.Contains(string(out), route) {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return errors.New("no route " + route)
	})
}

// port is a device with virtio headers.
type port struct {
	t  *testing.T
	fd int
}

func (n *namespace) device(name string, mode segment.Mode, offloads int) *port {
	n.t.Helper()
	p := &port{t: n.t}
	n.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		p.fd = fd
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		kind := uint16(unix.IFF_TUN)
		if mode == segment.TAP {
			kind = unix.IFF_TAP
		}
		request.SetUint16(kind | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return err
		}
		return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads)
	})
	n.t.Cleanup(func() { _ = unix.Close(p.fd) })
	n.ip("link set " + name + " up")
	return p
}

const allOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6

// read returns the next packet, or nil when none comes within the timeout or until
// stop is closed.
func (p *port) read(b []byte, timeout time.Duration, stop <-chan struct{}) (segment.VirtioHeader, []byte) {
	for end := time.Now().Add(timeout); time.Now().Before(end); {
		select {
		case <-stop:
			return segment.VirtioHeader{}, nil
		default:
		}
		n, err := unix.Read(p.fd, b)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 100)
			continue
		}
		if err != nil {
			p.t.Errorf("read: %v", err)
			break
		}
		h, err := segment.ParseVirtioHeader(b[:segment.VirtioSize])
		if err != nil {
			p.t.Errorf("read: %v: %x", err, b[:segment.VirtioSize])
		}
		return h, b[segment.VirtioSize:n]
	}
	return segment.VirtioHeader{}, nil
}

// The kernel is given the same super-frames as the Splitter, and a device to send them
// to that takes only whole packets with complete checksums:
//
//	test -> [tap0, any frame] -- bridge -- [tap1, no offloads] -> test
func TestSplitEqualsWhatTheKernelDoes(t *testing.T) {
	n := newNamespace(t)
	n.ip("link add bridge0 type bridge forward_delay 0 mcast_snooping 0")
	in := n.device("tap0", segment.TAP, allOffloads)
	out := n.device("tap1", segment.TAP, 0)
	n.ip("link set tap0 mtu 9000 master bridge0")
	n.ip("link set tap1 mtu 9000 master bridge0")
	n.ip("link set bridge0 up")
	var splitter segment.Splitter
	buffer := make([]byte, 1<<17)
	for seed := range uint64(600) {
		spec := randomSpec(random(t, seed))
		if spec.mode = segment.TAP; len(spec.payload) <= spec.size {
			continue // the kernel takes it for a single packet
		}
		h, packet := spec.super()
		addresses := bytes.Clone(packet[:12])
		if _, err := unix.Write(in.fd, append(h.Append(nil), packet...)); err != nil {
			t.Fatalf("write: %v: %+v", err, h)
		}
		if err := splitter.Begin(segment.TAP, h, packet, false); err != nil {
			t.Fatal(err)
		}
		want := seal(&splitter)
		var got [][]byte
		for len(got) < len(want) {
			h, p := out.read(buffer, 20*time.Second, nil)
			if p == nil {
				break
			}
			if len(p) < 12 || !bytes.Equal(p[:12], addresses) {
				continue // multicast of the bridge's own
			}
			if h != (segment.VirtioHeader{}) {
				t.Fatalf("header %+v without offloads", h)
			}
			got = append(got, bytes.Clone(p))
		}
		comparePackets(t, "kernel", got, want)
	}
}

// relay carries packets from one device to the other as a tunnel would, and counts.
type relay struct {
	t       *testing.T
	from    *port
	to      *port
	partial bool

	types     [6]int // of super-packets, by type
	written   int    // super-packets
	completed int
}

func (r *relay) run(stop <-chan struct{}) {
	buffer := make([]byte, 1<<17)
	chain := segment.NewChain(segment.TUN, make([]byte, 1<<18))
	var splitter segment.Splitter
	for {
		h, p := r.from.read(buffer, time.Hour, stop)
		if p == nil {
			return
		}
		if err := splitter.Begin(segment.TUN, h, p, r.partial); err != nil {
			r.t.Errorf("split: %v: %+v, %x", err, h, head(p))
			continue
		}
		r.types[h.Type&^segment.GSOECN]++
		if splitter.Completed() {
			r.completed++
		}
		for p, ok := splitter.Next(); ok; p, ok = splitter.Next() {
			r.deliver(chain, p, splitter.Partial())
		}
		r.drain(chain)
	}
}

func (r *relay) deliver(chain *segment.Chain, packet []byte, partial bool) {
	dst := chain.Room(len(packet))
	for dst == nil {
		r.write(chain.Take())
		dst = chain.Room(len(packet))
	}
	copy(dst[:len(packet)], packet)
	if chain.Add(partial) == segment.Malformed {
		r.t.Errorf("malformed: %x", head(packet))
	}
}

func (r *relay) drain(chain *segment.Chain) {
	for p := chain.Take(); p != nil; p = chain.Take() {
		r.write(p)
	}
}

func (r *relay) write(p []byte) {
	if _, err := unix.Write(r.to.fd, p); err != nil && !errors.Is(err, unix.EIO) {
		r.t.Errorf("write: %v: %x", err, head(p))
	}
	if p[1] != 0 {
		r.written++
	}
}

// tunnel is two namespaces with a TUN each:
//
//	[10.9.0.1, fd00::1 tun0] -- relay -- [tun0 10.9.0.2, fd00::2]
type tunnel struct {
	left, right       *namespace
	toRight, toLeft   *relay
	stop              chan struct{}
	relays            sync.WaitGroup
	leftIPs, rightIPs []netip.Addr
}

func newTunnel(t *testing.T, partial bool) *tunnel {
	t.Helper()
	u := &tunnel{
		left: newNamespace(t), right: newNamespace(t), stop: make(chan struct{}),
		leftIPs:  []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd00::1")},
		rightIPs: []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd00::2")},
	}
	left, right := u.left.device("tun0", segment.TUN, allOffloads), u.right.device("tun0", segment.TUN, allOffloads)
	for i, n := range []*namespace{u.left, u.right} {
		last := string(rune('1' + i))
		n.ip("address add 10.9.0." + last + "/24 dev tun0")
		n.ip("address add fd00::" + last + "/64 dev tun0 nodad")
		n.waitFor("local fd00::" + last)
	}
	u.toRight = &relay{t: t, from: left, to: right, partial: partial}
	u.toLeft = &relay{t: t, from: right, to: left, partial: partial}
	u.relays.Go(func() { u.toRight.run(u.stop) })
	u.relays.Go(func() { u.toLeft.run(u.stop) })
	t.Cleanup(u.close)
	return u
}

// close waits until the relays' counts can be read.
func (u *tunnel) close() {
	select {
	case <-u.stop:
	default:
		close(u.stop)
	}
	u.relays.Wait()
}

func TestTransfersThroughSplitterAndChainArriveWhole(t *testing.T) {
	for name, partial := range map[string]bool{"partial": true, "complete": false} {
		t.Run(name, func(t *testing.T) {
			u := newTunnel(t, partial)
			for i := range u.rightIPs {
				transfer(t, u, netip.AddrPortFrom(u.rightIPs[i], 5001))
			}
			u.close()
			r := u.toRight
			if r.types[segment.GSOTCPv4] == 0 || r.types[segment.GSOTCPv6] == 0 {
				t.Errorf("super-packets by type: %v: the kernel made none of a kind", r.types)
			}
			if r.written == 0 {
				t.Error("no super-packet was joined")
			}
			if partial && r.completed+u.toLeft.completed > 0 {
				t.Errorf("%d checksums completed", r.completed+u.toLeft.completed)
			}
		})
	}
}

// transfer sends 8 MB over TCP and compares what arrives.
func transfer(t *testing.T, u *tunnel, to netip.AddrPort) {
	t.Helper()
	var listener net.Listener
	u.right.do(func() (err error) {
		listener, err = net.Listen("tcp", to.String())
		return err
	})
	t.Cleanup(func() { _ = listener.Close() })
	var conn net.Conn
	u.left.do(func() (err error) {
		conn, err = net.DialTimeout("tcp", to.String(), 10*time.Second)
		return err
	})
	data := randomBytes(random(t, 7), 8<<20)
	go func() { // ends when all is sent, or the connection's deadline has passed
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = conn.Write(data)
		_ = conn.Close()
	}()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	_ = accepted.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(hash, accepted); err != nil {
		t.Errorf("receive: %v", err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("other data than was sent")
	}
}

func TestDatagramsThroughSplitterAndChainArriveOneByOne(t *testing.T) {
	for name, partial := range map[string]bool{"partial": true, "complete": false} {
		t.Run(name, func(t *testing.T) {
			u := newTunnel(t, partial)
			for i := range u.rightIPs {
				datagrams(t, u, netip.AddrPortFrom(u.rightIPs[i], 5001))
			}
			u.close()
			if r := u.toRight; r.types[segment.GSOUDP] != 2 || r.written != 2 {
				t.Errorf("super-packets by type: %v, joined: %d", r.types, r.written)
			}
		})
	}
}

// datagrams sends 30 datagrams and a shorter one by one call.
func datagrams(t *testing.T, u *tunnel, to netip.AddrPort) {
	t.Helper()
	var receiver *net.UDPConn
	u.right.do(func() (err error) {
		receiver, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(to))
		return err
	})
	t.Cleanup(func() { _ = receiver.Close() })
	data := randomBytes(random(t, 8), 30*1001+7)
	u.left.do(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		return sendSegments(conn, data, 1001)
	})
	var got []byte
	b := make([]byte, 2000)
	for k := range 31 {
		_ = receiver.SetDeadline(time.Now().Add(20 * time.Second))
		n, err := receiver.Read(b)
		if err != nil {
			t.Fatalf("datagram %d: %v", k, err)
		}
		if want := map[bool]int{true: 7, false: 1001}[k == 30]; n != want {
			t.Fatalf("datagram %d has %d bytes, want %d", k, n, want)
		}
		got = append(got, b[:n]...)
	}
	if !bytes.Equal(got, data) {
		t.Error("other data than was sent")
	}
}

func sendSegments(conn *net.UDPConn, data []byte, size uint16) error {
	control := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	header.Level, header.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&control[unix.CmsgLen(0)])) = size
	_, _, err := conn.WriteMsgUDP(data, control, nil)
	return err
}
