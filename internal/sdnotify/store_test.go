package sdnotify_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/sdnotify"
)

// A message is what the manager has received.
type message struct {
	text  string
	files []*os.File
}

// keeper is a manager that keeps descriptors, and returns what reads one message.
func keeper(t *testing.T) (receive func() message) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("FDSTORE", "16")
	return func() message { return receiveMessage(t, conn) }
}

func receiveMessage(t *testing.T, conn *net.UnixConn) message {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	text, control := make([]byte, 4096), make([]byte, 4096)
	n, c, flags, _, err := conn.ReadMsgUnix(text, control)
	if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		t.Errorf("receive: flags %#x, %v", flags, err)
		return message{}
	}
	m := message{text: string(text[:n])}
	parts, err := unix.ParseSocketControlMessage(control[:c])
	if err != nil {
		t.Error(err)
	}
	for _, part := range parts {
		fds, err := unix.ParseUnixRights(&part)
		if err != nil {
			t.Error(err)
		}
		for _, fd := range fds {
			m.files = append(m.files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return m
}

func (m message) close() {
	for _, f := range m.files {
		_ = f.Close()
	}
}

func newMemory(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func sameFile(t *testing.T, a, b *os.File) bool {
	t.Helper()
	x, err := a.Stat()
	y, err2 := b.Stat()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return os.SameFile(x, y)
}

func TestStoreHandsOverEachFileUnderItsName(t *testing.T) {
	receive := keeper(t)
	files := []*os.File{newMemory(t, "a"), newMemory(t, "b")}
	if err := (sdnotify.Notifier{}).Store("d1", files...); err != nil {
		t.Fatal(err)
	}
	for i, want := range files {
		m := receive()
		defer m.close()
		if m.text != "FDSTORE=1\nFDNAME=d1\nFDPOLL=0" {
			t.Errorf("received %q", m.text)
		}
		if len(m.files) != 1 || !sameFile(t, m.files[0], want) {
			t.Errorf("received %d descriptors, not the one of file %d", len(m.files), i)
		}
	}
}

func TestStoreKeepsADeviceThatWaitsInAPoll(t *testing.T) {
	receive := keeper(t)
	r, w, err := os.Pipe() // package os polls it: a second registration would fail
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	if err := (sdnotify.Notifier{}).Store("d1", r); err != nil {
		t.Fatal(err)
	}
	receive().close()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := r.Read(make([]byte, 1)); n != 1 {
		t.Errorf("after Store the file gives %d bytes, %v", n, err)
	}
}

func TestUnstoreWaitsUntilTheManagerIsThrough(t *testing.T) {
	receive := keeper(t)
	done := make(chan error, 1)
	go func() { done <- sdnotify.Notifier{}.Unstore("u7") }()
	if m := receive(); m.text != "FDSTOREREMOVE=1\nFDNAME=u7" || len(m.files) != 0 {
		t.Errorf("received %q with %d descriptors", m.text, len(m.files))
	}
	barrier := receive()
	if barrier.text != "BARRIER=1" || len(barrier.files) != 1 {
		t.Fatalf("received %q with %d descriptors", barrier.text, len(barrier.files))
	}
	select {
	case err := <-done:
		t.Errorf("returned before the manager was through: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	barrier.close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBarrierEndsWithItsContext(t *testing.T) {
	receive := keeper(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- sdnotify.Notifier{}.Barrier(ctx) }()
	defer receive().close()
	why := errors.New("no more time")
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestStoreThatIsNotThereIsNotUsed(t *testing.T) {
	receive := keeper(t)
	for _, size := range []string{"", "0", "-1", "many"} {
		t.Setenv("FDSTORE", size)
		n := sdnotify.Notifier{}
		if n.Keeps() {
			t.Errorf("FDSTORE=%s: keeps", size)
		}
		if err := errors.Join(n.Store("d1", newMemory(t, "a")), n.Unstore("d1"), n.Ready()); err != nil {
			t.Error(err)
		}
		if m := receive(); m.text != "READY=1" {
			t.Errorf("FDSTORE=%s: received %q", size, m.text)
		}
	}
	t.Setenv("FDSTORE", "16")
	t.Setenv("NOTIFY_SOCKET", "")
	n := sdnotify.Notifier{}
	if err := errors.Join(n.Store("d1", newMemory(t, "a")), n.Unstore("d1"), n.Barrier(t.Context())); n.Keeps() || err != nil {
		t.Errorf("without a manager: keeps %t, %v", n.Keeps(), err)
	}
}

func TestStoreSaysWhatIsWrong(t *testing.T) {
	keeper(t)
	n := sdnotify.Notifier{}
	file := newMemory(t, "a")
	_ = file.Close()
	if err := n.Store("d1", file); err == nil || !strings.HasPrefix(err.Error(), "store descriptor d1: ") {
		t.Errorf("closed file: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := n.Store("d1", newMemory(t, "a")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("manager that is gone: %v", err)
	}
	if err := n.Unstore("d1"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("manager that is gone: %v", err)
	}
}

func TestManagerMayListenOnAnAbstractAddress(t *testing.T) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@tund-sdnotify-test-" + t.TempDir(), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	t.Setenv("NOTIFY_SOCKET", conn.LocalAddr().String())
	t.Setenv("FDSTORE", "1")
	if err := (sdnotify.Notifier{}).Store("state", newMemory(t, "a")); err != nil {
		t.Fatal(err)
	}
	m := receiveMessage(t, conn)
	defer m.close()
	if len(m.files) != 1 {
		t.Errorf("received %q with %d descriptors", m.text, len(m.files))
	}
}
