package watch

import (
	"errors"
	"maps"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Look is what a list of files looks like at one time.
type Look struct {
	seen snapshot
	// Writer is a file that some process has open for writing; "": none, as far as the
	// kernel tells. It does not on file systems without leases (FUSE) or of the network
	// (NFS, CIFS), nor of another user's file to a process without CAP_LEASE.
	Writer string
}

// TakeLook looks at files, which are given as to [Watcher.SetFiles].
func TakeLook(files []string) Look {
	l := Look{seen: takeSnapshot(files)}
	for _, file := range slices.Sorted(maps.Keys(l.seen)) {
		if !l.seen[file].missing && hasWriter(file) {
			l.Writer = file
			break
		}
	}
	return l
}

// Changed returns a file that is not in later what it was. Files that only one of the
// two has looked at do not count.
func (l Look) Changed(later Look) (file string, ok bool) {
	for _, file := range slices.Sorted(maps.Keys(l.seen)) {
		if now, both := later.seen[file]; both && now != l.seen[file] {
			return file, true
		}
	}
	return "", false
}

// hasWriter asks the kernel for a lease to read, which it refuses while a process has
// the file open for writing, and gives it back. Another process that opens the file
// meanwhile waits for that; the signal that tells of it (SIGIO) is ignored by Go.
func hasWriter(file string) bool {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return errors.Is(err, syscall.EAGAIN) // another process holds a lease to write
	}
	defer func() { _ = f.Close() }()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) // Close does it too
	}
	if !errors.Is(err, syscall.EAGAIN) {
		return false
	}
	var fs unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &fs) == nil && leasesTell(int64(fs.Type)) //nolint:unconvert // 32 bits wide elsewhere
}

// leasesTell reports whether a refused lease means a writer. NFS and CIFS refuse each one that their server
// has not promised anything for.
func leasesTell(fileSystem int64) bool {
	switch uint32(fileSystem) { // CIFS has its highest bit, which 32-bit systems take for the sign
	case unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return false
	}
	return true
}
