package udp_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/udp"
)

// port makes a Port of a descriptor that ends with the test.
func port(t *testing.T, fd int) *udp.Port {
	t.Helper()
	t.Cleanup(func() { _ = unix.Close(fd) })
	p, err := udp.FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// coupled opens two Ports on loopback, the first of them connected to the second.
func coupled(t *testing.T, protocol int) (a, b *udp.Port) {
	t.Helper()
	enterNamespace(t)
	var fds [2]int
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, protocol)
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			t.Skipf("this kernel has no protocol %d to refuse runs with", protocol)
		}
		if err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
	}
	a, b = port(t, fds[0]), port(t, fds[1])
	if err := unix.Bind(fds[1], &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(fds[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fds[0], address); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// A kernel before 6.12 says EIO where the device can't make checksums, every kernel says
// so for UDP-Lite; EINVAL comes for a socket that is to send no checksums.
func TestARunArrivesWhateverRefusesIt(t *testing.T) {
	tests := []struct {
		name     string
		protocol int
		refuse   func(fd int) error
		errno    unix.Errno
		tries    uint64 // of two runs, of which the second has smaller datagrams
	}{
		{"EIO: no run will ever be taken", unix.IPPROTO_UDPLITE, func(int) error { return nil }, unix.EIO, 1},
		{"EINVAL: a smaller one might", unix.IPPROTO_UDP, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
		}, unix.EINVAL, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := coupled(t, tt.protocol)
			if err := tt.refuse(a.FD()); err != nil {
				t.Fatal(err)
			}
			if !a.SetGSO(true) {
				t.Fatal("runs are not in force")
			}
			if err := sendWhole(a.FD(), 3000, 1000); !errors.Is(err, tt.errno) {
				t.Fatalf("the kernel says %v, want %v", err, tt.errno)
			}
			for _, r := range []udp.Run{numbered(40, 1400, 77), numbered(5, 900, 900), numbered(3, 1400, 1)} {
				count := (len(r.Bytes) + r.Size - 1) / r.Size
				if n, err := a.SendRuns([]udp.Run{r}); n != count || err != nil {
					t.Fatalf("sent %d of %d, %v", n, count, err)
				}
				got, _ := collect(t, b, count)
				same(t, got, r)
			}
			if c := a.Counters(); c != (udp.Counters{Singly: tt.tries}) {
				t.Errorf("counted %+v, want %d tries in vain", c, tt.tries)
			}
		})
	}
}

// sendWhole sends a run as a whole, whatever the Port knows.
func sendWhole(fd, size int, segment uint16) error {
	control := make([]byte, unix.CmsgSpace(2))
	control[0] = byte(unix.CmsgLen(2))
	control[8], control[12] = unix.SOL_UDP, unix.UDP_SEGMENT
	control[16], control[17] = byte(segment), byte(segment>>8)
	return unix.Sendmsg(fd, make([]byte, size), control, nil, 0)
}

// A socket that knows neither UDP_SEGMENT nor UDP_GRO is what an old kernel's is.
func TestAKernelWithoutRunsGetsDatagramsOneByOne(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := port(t, fds[0]), port(t, fds[1])
	if a.SetGSO(true) || b.SetGRO(true) {
		t.Error("runs are in force")
	}
	r := numbered(8, 1400, 77)
	if n, err := a.SendRuns([]udp.Run{r}); n != 8 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	got, receipts := collect(t, b, 8)
	same(t, got, r)
	if c := a.Counters(); receipts != 8 || c != (udp.Counters{}) {
		t.Errorf("%d receipts, counted %+v", receipts, c)
	}
}
