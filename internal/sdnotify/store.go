package sdnotify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// storeVariable says how many descriptors the manager keeps. systemd sets it from 254 on;
// the unit sets it for older ones.
const storeVariable = "FDSTORE"

// patience is how long the manager may take to read what it is sent. It reads within
// milliseconds; a manager that hangs must not make tund hang with it.
const patience = 5 * time.Second

// Keeps says whether the manager keeps descriptors from one process of the service to
// the next. Where it does not, Store and Unstore do nothing.
func (Notifier) Keeps() bool {
	n, err := strconv.Atoi(os.Getenv(storeVariable))
	return err == nil && n > 0 && os.Getenv("NOTIFY_SOCKET") != ""
}

// Store gives the manager duplicates of files, to be handed to the next process of the service
// under that name, which several may share (sd_pid_notify_with_fds(3)). The manager
// does not poll them: a device whose link is down looks like a closed one. It drops what is
// beyond the unit's FileDescriptorStoreMax without saying so. Names that systemd takes
// have at most 255 bytes, but all names must fit an environment: keep to twelve.
func (n Notifier) Store(name string, files ...*os.File) error {
	if !n.Keeps() {
		return nil
	}
	for _, file := range files {
		if err := sendFile("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", file); err != nil {
			return fmt.Errorf("store descriptor %s: %w", name, err)
		}
	}
	return nil
}

// Unstore removes all descriptors of that name from the store, and returns when no later process
// gets them. The manager closes its duplicates then, systemd from 253 on in a thread beside: what
// goes with the last of them, such as an interface, may be there for another moment.
func (n Notifier) Unstore(name string) error {
	if !n.Keeps() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := errors.Join(send("descriptor store", "FDSTOREREMOVE=1\nFDNAME="+name), n.Barrier(ctx)); err != nil {
		return fmt.Errorf("remove descriptor %s from the store: %w", name, err)
	}
	return nil
}

// Barrier returns when the manager has dealt with all that it was sent before
// (sd_notify_barrier(3)), or with the error of ctx when that is done first.
func (Notifier) Barrier(ctx context.Context) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make barrier: %w", err)
	}
	defer func() { _ = r.Close() }()
	err = sendFile("BARRIER=1", w)
	_ = w.Close() // now the manager has the only one
	if err != nil {
		return fmt.Errorf("send barrier: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })()
	_, err = r.Read(make([]byte, 1))
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("wait for barrier: %w", context.Cause(ctx))
	default:
		return fmt.Errorf("wait for barrier: %w", err)
	}
}

// sendFile sends a state together with a descriptor.
func sendFile(state string, file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = sendDescriptor(state, int(fd)) })
	return errors.Join(err, failed)
}

// sendDescriptor uses an unconnected socket of its own: with a connected one, package net's
// WriteMsgUnix refuses to send to an address, and sends nothing without one.
func sendDescriptor(state string, fd int) error {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer func() { _ = unix.Close(socket) }()
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return fmt.Errorf("limit time to send: %w", err)
	}
	to := &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}
	for {
		err := unix.Sendmsg(socket, []byte(state), unix.UnixRights(fd), to, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}
