package sandbox

import (
	"errors"
	"os"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// account is the user that children of a root tund run as, where it exists.
const account = "tund"

// nobody is the user and group otherwise: the kernel's overflow ids.
const nobody = 65534

// dropIDs gives up what the calling thread has of root's ids, each by itself: a container may
// have left the one right and not the other, and a user namespace may map few ids or none
// but root's. What can't be given up stays: without a capability it is worth what root's
// files are, and those Landlock forbids.
func dropIDs() {
	uid, effective, saved := unix.Getresuid()
	isRoot := uid == 0 || effective == 0 || saved == 0
	users, groups := accounts()
	if held, err := rootGroups(); held || err != nil || isRoot {
		_, _, _ = unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		firstAllowed(unix.SYS_SETRESGID, groups)
	}
	if isRoot { // last: the capabilities go with the user
		firstAllowed(unix.SYS_SETRESUID, users)
	}
}

// firstAllowed sets an id in all its three forms to the first of some that the kernel allows.
func firstAllowed(call uintptr, ids []uintptr) {
	for _, id := range ids {
		if _, _, errno := unix.RawSyscall(call, id, id, id); errno == 0 {
			return
		}
	}
}

// accounts are the ids that a child may get, best first.
func accounts() (users, groups []uintptr) {
	users, groups = []uintptr{nobody}, []uintptr{nobody}
	if uid, gid, err := accountIDs(); err == nil && uid != 0 && gid != 0 {
		users, groups = append([]uintptr{uid}, users...), append([]uintptr{gid}, groups...)
	}
	return users, groups
}

func accountIDs() (uid, gid uintptr, err error) {
	u, err := user.Lookup(account)
	if err != nil {
		return 0, 0, err
	}
	uid64, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid64, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return uintptr(uid64), uintptr(gid64), errors.Join(err1, err2)
}

// rootGroups tells whether the process is in root's group in any way.
func rootGroups() (bool, error) {
	gid, effective, saved := unix.Getresgid()
	others, err := os.Getgroups()
	return gid == 0 || effective == 0 || saved == 0 || slices.Contains(others, 0), err
}

// ownIDs says what of root's ids this process has kept, or nil.
func ownIDs() error {
	held, err := rootGroups()
	uid, effective, saved := unix.Getresuid()
	switch {
	case uid == 0 || effective == 0 || saved == 0:
		return errors.New("it stays user root: tund has not the capability CAP_SETUID, or no other user exists here")
	case held || err != nil:
		return errors.New("it stays in group root: tund has not the capability CAP_SETGID, or no other group exists here")
	}
	return nil
}
