package sdnotify_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/sdnotify"
)

// manager listens as the service manager does, and returns what reads one message.
func manager(t *testing.T) func() string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestManagerIsToldEachState(t *testing.T) {
	receive := manager(t)
	var n sdnotify.Notifier
	tests := []struct {
		send func() error
		want string
	}{
		{n.Ready, "READY=1"},
		{n.Stopping, "STOPPING=1"},
		{n.Ping, "WATCHDOG=1"},
		{func() error { return n.Status("4 peers, 3 up") }, "STATUS=4 peers, 3 up"},
		{func() error { return n.Status("two\nREADY=1") }, "STATUS=two READY=1"},
	}
	for _, tt := range tests {
		if err := tt.send(); err != nil {
			t.Errorf("%s: %v", tt.want, err)
			continue
		}
		if got := receive(); got != tt.want {
			t.Errorf("received %q, want %q", got, tt.want)
		}
	}
}

func TestReloadingCarriesTheMonotonicClockInTheSameMessage(t *testing.T) {
	receive := manager(t)
	before := monotonic(t)
	if err := (sdnotify.Notifier{}).Reloading(); err != nil {
		t.Fatal(err)
	}
	text, found := strings.CutPrefix(receive(), "RELOADING=1\nMONOTONIC_USEC=")
	usec, err := strconv.ParseInt(text, 10, 64)
	if !found || err != nil {
		t.Fatalf("received %q", text)
	}
	if after := monotonic(t); usec < before || usec > after {
		t.Errorf("clock is %d, not within %d and %d", usec, before, after)
	}
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

func TestWithoutAManagerNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var n sdnotify.Notifier
	for _, send := range []func() error{n.Ready, n.Reloading, n.Stopping, n.Ping} {
		if err := send(); err != nil {
			t.Error(err)
		}
	}
}

func TestManagerThatIsGoneIsAnError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := (sdnotify.Notifier{}).Ready(); err == nil || !strings.Contains(err.Error(), "notify service manager: ready: ") {
		t.Errorf("got %v", err)
	}
}

func TestWatchdogIsPingedTwiceInItsTimeout(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	tests := []struct {
		usec, pid string
		want      time.Duration
		bad       bool
	}{
		{"", "", 0, false},
		{"10000000", "", 5 * time.Second, false},
		{"10000000", self, 5 * time.Second, false},
		{"10000000", "1", 0, false},
		{"soon", "", 0, true},
		{"-1", "", 0, true},
	}
	for _, tt := range tests {
		t.Setenv("WATCHDOG_USEC", tt.usec)
		t.Setenv("WATCHDOG_PID", tt.pid)
		got, err := sdnotify.Notifier{}.WatchdogInterval()
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %s, %v", tt.usec, tt.pid, got, err)
		}
	}
}
