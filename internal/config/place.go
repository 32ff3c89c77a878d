package config

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// writers is what of a mode lets others than the owner write.
const writers fs.FileMode = 0o022

// CheckPlace returns why a secret at path is not safe, as sshd's StrictModes does it: somebody
// else than root and the user whose id is given could put another file in its place; with root's
// id, the user tund may, too. That is so
// if another user owns the file, a link on the way or a directory, or may write to a directory,
// which the sticky bit makes harmless for what is root's or that user's own. What is missing
// at the end of path is safe.
func CheckPlace(path string, uid int) error {
	return newOwners(uid, user.Lookup).check(path)
}

// serviceUser is the user of the packaged service. A tund that root runs has children that are
// this user, and its key file may be that of the package.
const serviceUser = "tund"

// owners are those whose files are trusted.
type owners struct {
	uid, gid uint32
	service  uint32 // of root: serviceUser
	own      bool   // uid and gid are this process's
	mapped   bool   // every user has an id here
}

func newOwners(uid int, lookup func(name string) (*user.User, error)) *owners {
	o := &owners{uid: uint32(uid), gid: uint32(os.Getegid()), own: uid == os.Geteuid(), mapped: !inUserNamespace()}
	if uid != 0 {
		return o
	}
	if u, err := lookup(serviceUser); err == nil {
		id, _ := strconv.ParseUint(u.Uid, 10, 32) // 0 is root, which is trusted anyway
		o.service = uint32(id)
	}
	return o
}

// overflowID is what the kernel shows of an owner that has no id in a user namespace.
const overflowID = 65534

// inUserNamespace says whether ids are translated; the first namespace maps all to themselves.
func inUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !bytes.Equal(bytes.Join(bytes.Fields(text), []byte(" ")), []byte("0 0 4294967295"))
}

// String names the users that may own a file.
func (o *owners) String() string {
	if o.uid == 0 {
		return "root"
	}
	return "root or " + userName(o.uid)
}

// trusted says whether a file of this user is as good as root's. In a user namespace the owner
// without an id is whoever set it up, for want of better knowledge.
func (o *owners) trusted(uid uint32) bool {
	return uid == 0 || uid == o.uid || uid == o.service || !o.mapped && uid == overflowID
}

// check follows path as the kernel does, element by element.
func (o *owners) check(path string) error {
	at, rest, links := "/", elements(path), 0
	dir, err := os.Lstat(at)
	for err == nil && len(rest) > 0 {
		var info fs.FileInfo
		next := filepath.Join(at, rest[0])
		if info, err = os.Lstat(next); err != nil {
			break
		}
		if rest[0] != ".." {
			if err := o.judge(at, dir, next, info); err != nil {
				return err
			}
		}
		rest = rest[1:]
		if info.Mode()&fs.ModeSymlink == 0 {
			at, dir = next, info
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%s: too many links", path)
		}
		var target string
		if target, err = os.Readlink(next); err == nil && filepath.IsAbs(target) {
			at = "/"
			dir, err = os.Lstat(at)
		}
		rest = append(elements(target), rest...)
	}
	if err != nil && len(rest) == 1 && dir.IsDir() { // it may be made here
		return o.judge(at, dir, filepath.Join(at, rest[0]), nil)
	}
	return nil // who opens it says what is missing
}

// judge says whether others could replace an entry of a directory; nil: it is missing.
func (o *owners) judge(at string, dir fs.FileInfo, next string, entry fs.FileInfo) error {
	if owner := ownerOf(dir); !o.trusted(owner) {
		return fmt.Errorf("the directory %s belongs to %s, who can replace what is in it", at, userName(owner))
	}
	sticky := dir.Mode()&fs.ModeSticky != 0
	switch {
	case !o.shared(dir):
	case !sticky:
		return fmt.Errorf("others may write to the directory %s (mode %#o), and replace what is in it: chmod go-w %s",
			at, dir.Mode().Perm(), at)
	case entry == nil: // the directory is as it should be, but no place for this
		return fmt.Errorf("others may write to the directory %s (mode %#o), and make the file first: use a directory of your own",
			at, dir.Mode().Perm()|0o1000)
	}
	if entry == nil {
		return nil
	}
	if owner := ownerOf(entry); !o.trusted(owner) && !entry.IsDir() { // a directory is judged with what it holds
		return fmt.Errorf("%s belongs to %s, not to %s", next, userName(owner), o)
	}
	return nil
}

// shared says whether others than a trusted user may write to a directory. Root's group is
// root, and where the directory is our own, so is our group.
func (o *owners) shared(dir fs.FileInfo) bool {
	mode := dir.Mode().Perm() & writers
	if group := dir.Sys().(*syscall.Stat_t).Gid; group == 0 || o.own && group == o.gid && ownerOf(dir) == o.uid {
		mode &^= 0o020
	}
	return mode != 0
}

func ownerOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// userName is a user's name, or its number where it has none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return "user " + u.Username
	}
	return "user " + id
}

// elements returns the elements of a path, less those that mean nothing.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
