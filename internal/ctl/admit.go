package ctl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// aclName is the extended attribute that holds a file's access control list (acl(5)).
const aclName = "system.posix_acl_access"

// The entries of such a list come in the order of their tags.
const (
	aclVersion   = 2
	aclOwner     = 0x01
	aclGroup     = 0x04 // the file's
	aclOther     = 0x20
	aclOfGroup   = 0x08
	aclMask      = 0x10
	aclReadWrite = 6
	aclNobody    = 1<<32 - 1 // the id of an entry without one
)

// admit lets the members of some groups connect to the socket at path, beside whom its owner, group and mode
// admit. Groups that do not exist are left out. On a file system without such lists the first
// of them becomes the file's group, where this process may give it away.
func admit(path string, groups ...string) error {
	var ids []uint32
	for _, name := range groups {
		if gid, ok := lookupGroup(name); ok {
			ids = append(ids, gid)
		}
	}
	if _, err := unix.Getxattr(path, aclName, nil); err == nil || len(ids) == 0 {
		return nil // an earlier tund's, on a socket that systemd holds
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("admit groups: %w", err)
	}
	err = unix.Setxattr(path, aclName, accessList(info.Mode(), ids), 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = errors.Join(os.Chown(path, -1, int(ids[0])), os.Chmod(path, info.Mode().Perm()|0o060))
	}
	if err != nil {
		return fmt.Errorf("admit groups to %s: %w", path, err)
	}
	return nil
}

// accessList is what a mode says, and the groups.
func accessList(mode fs.FileMode, groups []uint32) []byte {
	list := binary.LittleEndian.AppendUint32(nil, aclVersion)
	add := func(tag uint16, permissions fs.FileMode, id uint32) {
		list = binary.LittleEndian.AppendUint16(list, tag)
		list = binary.LittleEndian.AppendUint16(list, uint16(permissions&7))
		list = binary.LittleEndian.AppendUint32(list, id)
	}
	add(aclOwner, mode>>6, aclNobody)
	add(aclGroup, mode>>3, aclNobody)
	for _, id := range groups {
		add(aclOfGroup, aclReadWrite, id)
	}
	add(aclMask, aclReadWrite, aclNobody)
	add(aclOther, mode, aclNobody)
	return list
}

// lookupGroup returns the number of a group, and whether there is such a group.
func lookupGroup(name string) (uint32, bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, false
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(gid), err == nil
}
