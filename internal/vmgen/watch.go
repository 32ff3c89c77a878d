package vmgen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

const (
	kernelEvents = 1 // the multicast group of the kernel's own events, unlike udev's
	// maxEvent is more than the kernel sends (UEVENT_BUFFER_SIZE is 2048, and the head).
	maxEvent = 8 << 10
	// receiveBuffer takes what a machine with thousands of devices says at once.
	receiveBuffer = 4 << 20
)

// Watch calls cloned each time that the machine has got another generation, until ctx is
// done; then it returns nil. It fails if the kernel's events can't be had. It must run in the
// network namespace that the system has begun with, or in one of the same user namespace:
// others do not get these events.
func Watch(ctx context.Context, log *slog.Logger, cloned func()) error {
	socket, err := open()
	if err != nil {
		return fmt.Errorf("watch the generation of the virtual machine: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	defer func() { _ = socket.Close() }()
	w := watcher{log: log, cloned: cloned}
	if err := w.run(socket); ctx.Err() == nil {
		return fmt.Errorf("watch the generation of the virtual machine: %w", err)
	}
	return nil
}

// open makes the socket. Its owner closes it.
func open() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) // what there is will do
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelEvents}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}

// watcher judges what comes from the socket.
type watcher struct {
	log    *slog.Logger
	cloned func()
}

// run reads events until the socket is closed, and returns why it ended.
func (w *watcher) run(socket *os.File) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	event := make([]byte, maxEvent)
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), event, unix.MSG_TRUNC)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err != nil {
			return err
		}
		if err := w.take(event, n, from, failed); err != nil {
			return err
		}
	}
}

// take handles what one read has brought. n is the length of the event, even where it did
// not fit.
func (w *watcher) take(event []byte, n int, from unix.Sockaddr, failed error) error {
	switch {
	case errors.Is(failed, unix.ENOBUFS):
		w.log.Warn("kernel events lost", "reason", "a change of the virtual machine's generation may be among them")
		return nil
	case errors.Is(failed, unix.EINTR):
		return nil
	case failed != nil:
		return os.NewSyscallError("recvfrom", failed)
	}
	if n <= len(event) && isKernel(from) && changed(event[:n]) {
		w.cloned()
	}
	return nil
}

// isKernel tells whether the kernel has sent it, to all. A process that may send to this group
// has a port of its own.
func isKernel(from unix.Sockaddr) bool {
	a, ok := from.(*unix.SockaddrNetlink)
	return ok && a.Pid == 0 && a.Groups == kernelEvents
}
