package tuntap_test

import (
	"encoding/binary"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tund/internal/tuntap"
)

func TestOffloadsComeIntoForceAsWanted(t *testing.T) {
	tests := []struct {
		wanted tuntap.Offloads
		text   string
		reason string
	}{
		{tuntap.OffloadAll, "csum tso4 tso6 uso4 uso6", ""},
		{tuntap.OffloadNone, "none", "switched off"},
		{tuntap.OffloadChecksum | tuntap.OffloadTSO4, "csum tso4", "tso6 uso4 uso6 switched off"},
	}
	enterNamespace(t)
	for _, tt := range tests {
		d := open(t, tuntap.Options{Name: "dev0", Mode: tuntap.TUN, Offloads: tt.wanted})
		if d.Offloads() != tt.wanted || d.Offloads().String() != tt.text || d.OffloadReason() != tt.reason {
			t.Errorf("wanted %v: in force %v, because %q", tt.wanted, d.Offloads(), d.OffloadReason())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnOldKernelGetsTheOffloadsThatItKnows(t *testing.T) {
	tests := []struct{ known, want tuntap.Offloads }{
		{tuntap.OffloadAll, tuntap.OffloadAll},
		{tuntap.OffloadChecksum | tuntap.OffloadTSO4 | tuntap.OffloadTSO6, tuntap.OffloadChecksum | tuntap.OffloadTSO4 | tuntap.OffloadTSO6},
		{tuntap.OffloadChecksum, tuntap.OffloadChecksum},
		{tuntap.OffloadNone, tuntap.OffloadNone},
	}
	for _, tt := range tests {
		var got tuntap.Offloads
		for _, o := range tuntap.Preferences(tuntap.OffloadAll) {
			if got = o; o&^tt.known == 0 {
				break
			}
		}
		if got != tt.want {
			t.Errorf("kernel with %v: %v", tt.known, got)
		}
		if reason := tuntap.Shortfall(tuntap.OffloadAll, got); (reason == "") != (got == tuntap.OffloadAll) ||
			got != tuntap.OffloadAll && !strings.HasPrefix(reason, "the kernel refuses ") {
			t.Errorf("kernel with %v: because %q", tt.known, reason)
		}
	}
}

// To this kernel a flag that it does not know is what USO is to an old one: it refuses the
// whole set, and gets the next.
func TestOffloadsFallBackWhereTheKernelRefusesThem(t *testing.T) {
	const unknown tuntap.Offloads = 1 << 30
	enterNamespace(t)
	d := open(t, tuntap.Options{Name: "dev0", Mode: tuntap.TUN})
	fd := int(d.File().Fd())
	if got, err := tuntap.SetOffloads(fd, unknown); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("an unknown offload: %v, %v", got, err)
	}
	known := tuntap.OffloadChecksum | tuntap.OffloadTSO4 | tuntap.OffloadTSO6
	got, err := tuntap.SetOffloads(fd, unknown|tuntap.OffloadAll, unknown|known, known, tuntap.OffloadNone)
	if got != known || err != nil {
		t.Fatalf("in force %v, %v, want %v", got, err, known)
	}
	out, err := exec.Command("ethtool", "-k", "dev0").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tx-tcp-segmentation: on", "tx-tcp6-segmentation: on", "tx-udp-segmentation: off"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// An administrator's device keeps the bounds that he gave it.
func TestSuperPacketsAreBoundedOnADeviceMadeHere(t *testing.T) {
	enterNamespace(t)
	open(t, tuntap.Options{Name: "made0", Mode: tuntap.TUN, Offloads: tuntap.OffloadAll, SuperPacket: 30000})
	show := ip(t, "-d link show made0")
	for _, want := range []string{"gso_max_size 30000", "gso_max_segs 64"} {
		if !strings.Contains(show, want) {
			t.Errorf("no %q in\n%s", want, show)
		}
	}
	wantSuperPacket(t, "made0", 30000)
	open(t, tuntap.Options{Name: "usual0", Mode: tuntap.TAP, Offloads: tuntap.OffloadAll})
	wantSuperPacket(t, "usual0", tuntap.DefaultSuperPacket)
	ip(t, "tuntap add adm0 mode tun")
	open(t, tuntap.Options{Name: "adm0", Mode: tuntap.TUN, Offloads: tuntap.OffloadAll, SuperPacket: 30000})
	if show := ip(t, "-d link show adm0"); strings.Contains(show, "gso_max_size 30000") {
		t.Errorf("the administrator's device was changed:\n%s", show)
	}
}

// wantSuperPacket fails the test unless both of the kernel's bounds are this one. Older
// kernels have only one of them.
func wantSuperPacket(t *testing.T, name string, size uint32) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if a := link.Attrs(); a.GSOMaxSize != size || a.GSOIPv4MaxSize != size && a.GSOIPv4MaxSize != 0 {
		t.Errorf("%s: super-packets of %d bytes, over IPv4 %d, want %d", name, a.GSOMaxSize, a.GSOIPv4MaxSize, size)
	}
}

// One send of 20,000 bytes by UDP_SEGMENT is one packet for the reader, and only with
// the offload in force.
func TestASuperPacketCrossesWhole(t *testing.T) {
	for _, whole := range []bool{true, false} {
		enterNamespace(t)
		o := tuntap.Options{Name: "dev0", Mode: tuntap.TUN, Offloads: tuntap.OffloadAll}
		if !whole {
			o.Offloads = tuntap.OffloadNone
		}
		d := open(t, o)
		ip(t, "addr add 10.1.0.1/24 dev dev0")
		ip(t, "link set dev0 up")
		p, err := tuntap.FromFD(int(d.File().Fd()), tuntap.TUN)
		if err != nil {
			t.Fatal(err)
		}
		sendSegmented(t, make([]byte, 20000), 1000)
		b := make([]byte, 1<<16)
		n, err := p.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		size := binary.LittleEndian.Uint16(b[4:])
		if whole && (n != tuntap.HeaderSize+28+20000 || b[0] != 1 || b[1] != unix.VIRTIO_NET_HDR_GSO_UDP_L4 || size != 1000) {
			t.Errorf("read %d bytes, header %x", n, b[:tuntap.HeaderSize])
		}
		if !whole && (n != tuntap.HeaderSize+28+1000 || b[0] != 0 || b[1] != 0) {
			t.Errorf("read %d bytes, header %x", n, b[:tuntap.HeaderSize])
		}
	}
}

func sendSegmented(t *testing.T, payload []byte, size int) {
	t.Helper()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(s) })
	if err := unix.SetsockoptInt(s, unix.SOL_UDP, unix.UDP_SEGMENT, size); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(s, payload, 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{10, 1, 0, 2}}); err != nil {
		t.Fatal(err)
	}
}

// A super-packet that is written is many datagrams for a socket behind the device, and
// one with a header that contradicts it is refused.
func TestAWrittenSuperPacketIsCutByTheKernel(t *testing.T) {
	enterNamespace(t)
	d := open(t, tuntap.Options{Name: "dev0", Mode: tuntap.TUN, Offloads: tuntap.OffloadAll})
	ip(t, "addr add 10.1.0.1/24 dev dev0")
	ip(t, "link set dev0 up")
	p, err := tuntap.FromFD(int(d.File().Fd()), tuntap.TUN)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket("udp4", "10.1.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	b := superPacket(10, 100)
	if n, err := p.Write(b); n != len(b) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	got := make([]byte, 2000)
	for i := range 10 {
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := c.ReadFrom(got); n != 100 || err != nil || got[0] != byte(i) {
			t.Fatalf("datagram %d: %d bytes, %v", i, n, err)
		}
	}
	binary.LittleEndian.PutUint16(b[4:], 0) // gso_size
	if _, err := p.Write(b); !errors.Is(err, tuntap.ErrRefused) {
		t.Errorf("contradictory header: %v", err)
	}
}

// superPacket returns count datagrams of size bytes from 10.1.0.2 to 10.1.0.1 port 9 as
// one packet behind its header.
func superPacket(count, size int) []byte {
	b := make([]byte, tuntap.HeaderSize+28+count*size)
	b[0], b[1] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_UDP_L4
	for i, v := range []uint16{28, uint16(size), 20, 6} {
		binary.LittleEndian.PutUint16(b[2+2*i:], v)
	}
	packet := b[tuntap.HeaderSize:]
	copy(packet, ipPacket(len(packet))[:20])
	packet[9] = unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(packet[10:], ^fold(sum(packet[:20])))
	udp := packet[20:]
	binary.BigEndian.PutUint16(udp, 9)
	binary.BigEndian.PutUint16(udp[2:], 9)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	pseudo := sum(packet[12:20]) + unix.IPPROTO_UDP + uint32(len(udp))
	binary.BigEndian.PutUint16(udp[6:], fold(pseudo))
	for i := range count {
		udp[8+i*size] = byte(i)
	}
	return b
}

func sum(b []byte) (s uint32) {
	for i := 0; i < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
