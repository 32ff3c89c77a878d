package netcfg_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/tuntap"
)

// arrives sends a packet out of dev0 and reports whether its reader gets it.
func arrives(t *testing.T, conn net.Conn, d *tuntap.Device) bool {
	t.Helper()
	if _, err := conn.Write([]byte("packet")); err != nil {
		return false
	}
	fd := int(d.File().Fd())
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 5000); n == 0 || err != nil {
			return false
		}
		packet := make([]byte, 2000)
		n, err := unix.Read(fd, packet)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(string(packet[:n]), "packet") { // not an IPv6 router solicitation
			return true
		}
	}
}

func TestInterfaceThatRunsTakesPackets(t *testing.T) {
	enterNamespace(t)
	d := newDevice(t, tuntap.TUN)
	m := newManager(t)
	if err := d.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	apply(t, m, settings(t, "10.0.0.1/24"))
	conn, err := net.Dial("udp4", "10.0.0.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for round := range 3 {
		if err := m.AwaitRunning("dev0", 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "dev0") {
			t.Errorf("round %d: without a carrier: %v", round, err)
		}
		if err := d.SetCarrier(true); err != nil {
			t.Fatal(err)
		}
		if err := m.AwaitRunning("dev0", time.Minute); err != nil {
			t.Fatal(err)
		}
		if !arrives(t, conn, d) {
			t.Errorf("round %d: the first packet is lost", round)
		}
		if err := d.SetCarrier(false); err != nil {
			t.Fatal(err)
		}
		await := time.Now().Add(5 * time.Second) // the kernel takes a second to see that
		for m.AwaitRunning("dev0", time.Millisecond) == nil && time.Now().Before(await) {
			_, _ = unix.Poll(nil, 10) // a pause
		}
	}
	if err := m.AwaitRunning("absent", time.Second); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("an interface that is not there: %v", err)
	}
}
