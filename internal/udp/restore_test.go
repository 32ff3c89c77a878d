package udp

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// The other side was told a port: a socket that was destroyed before it was connected, which
// gives back what the kernel chose, gets that again.
func TestAPortThatTheKernelChoseOutlivesTheSocketsEnd(t *testing.T) {
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	remote := peer.LocalAddr().(*net.UDPAddr).AddrPort()
	for name, destroy := range map[string]func(fd int) error{
		"destroyed": dissolve,
		"destroyed, and bound by a send": func(fd int) error {
			if err := dissolve(fd); err != nil {
				return err
			}
			return bindTo(fd, unix.AF_INET6, netip.MustParseAddrPort("[::]:0"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := NewSocket()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if err := s.Bind(netip.AddrPort{}); err != nil {
				t.Fatal(err)
			}
			if err := s.control(destroy); err != nil {
				t.Fatal(err)
			}
			if now, err := s.LocalAddr(); err != nil || now.Port() == s.LocalPort() {
				t.Fatalf("not destroyed: %v, %v", now, err)
			}
			if err := s.Connect(netip.AddrPort{}, remote); err != nil {
				t.Fatal(err)
			}
			if now, err := s.LocalAddr(); err != nil || now.Port() != s.LocalPort() || !s.Connected() {
				t.Errorf("it has port %d, and was bound to %d; connected %v, %v", now.Port(), s.LocalPort(), s.Connected(), err)
			}
		})
	}
}
