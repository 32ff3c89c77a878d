package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// caller is the process at the other end of a connection, as the kernel knew it
// when it connected. What it says of itself plays no part.
type caller struct {
	uid    uint32
	pid    int32
	groups []uint32 // its group and its supplementary groups
}

// CallerUID returns the user who has made the request that a method of a [Backend] was called for.
func CallerUID(ctx context.Context) (uid uint32, ok bool) {
	who, ok := ctx.Value(callerKey{}).(caller)
	return who.uid, ok
}

// identify asks the kernel who has connected.
func identify(conn *net.UnixConn) (caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	var who caller
	var failed error
	err = raw.Control(func(fd uintptr) { who, failed = identifyDescriptor(int(fd)) })
	return who, errors.Join(err, failed)
}

func identifyDescriptor(fd int) (caller, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return caller{}, fmt.Errorf("peer credentials: %w", err)
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return caller{}, fmt.Errorf("peer groups: %w", err)
	}
	return caller{uid: cred.Uid, pid: cred.Pid, groups: append(groups, cred.Gid)}, nil
}

// peerGroups returns the supplementary groups that the other process had when it
// connected (SO_PEERGROUPS, Linux 4.13). Reading /proc/PID/status instead would
// tell of whoever has that number by now.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(len(groups)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == syscall.ERANGE && int(size/4) > len(groups):
			groups = make([]uint32, size/4)
		default:
			return nil, errno
		}
	}
}

// may reports whether the caller has the access that a route asks for, which members of the groups have. That
// it could connect is not enough: who has made the socket may have left it open to anybody.
func (c caller) may(access Access, groups ...string) bool {
	if access != Read && access != Write {
		return false
	}
	return c.uid == 0 || c.uid == uint32(os.Geteuid()) || slices.ContainsFunc(groups, c.memberOf)
}

// groupsWith are the groups whose members have an access.
func groupsWith(access Access, o Options) []string {
	if access == Read {
		return []string{o.Group, o.AdminGroup}
	}
	return []string{o.AdminGroup}
}

// memberOf looks the group up each time: it may be made while tund runs.
func (c caller) memberOf(group string) bool {
	gid, ok := lookupGroup(group)
	return ok && slices.Contains(c.groups, gid)
}
