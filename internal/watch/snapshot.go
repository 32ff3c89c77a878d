package watch

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// stamp is what of a file's state tells of a change.
type stamp struct {
	access
	size   int64
	mtime  int64 // ns
	device uint64
	inode  uint64
}

// access is who may read a file: a change of it can mend or spoil one whose content
// stays the same.
type access struct {
	missing  bool // or out of reach
	mode     fs.FileMode
	uid, gid uint32
}

// snapshot is the state of all files at one time.
type snapshot map[string]stamp

// takeSnapshot looks at the files, through links.
func takeSnapshot(files []string) snapshot {
	s := make(snapshot, len(files))
	for _, file := range files {
		if filepath.Base(file) != pattern {
			s[file] = stampOf(file)
			continue
		}
		dir := filepath.Dir(file)
		for _, name := range matches(dir) {
			s[filepath.Join(dir, name)] = stampOf(filepath.Join(dir, name))
		}
	}
	return s
}

func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{access: access{missing: true}}
	}
	s := stamp{access: access{mode: info.Mode()}, size: info.Size(), mtime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.uid, s.gid = sys.Uid, sys.Gid
		s.device, s.inode = sys.Dev, sys.Ino
	}
	return s
}

// difference returns a file that is not the same in both.
func (s snapshot) difference(other snapshot) (file string, ok bool) {
	return s.find(other, func(a, b stamp) bool { return a != b })
}

// accessDifference returns a file that not the same may read.
func (s snapshot) accessDifference(other snapshot) (file string, ok bool) {
	return s.find(other, func(a, b stamp) bool { return a.access != b.access })
}

func (s snapshot) find(other snapshot, differ func(a, b stamp) bool) (file string, ok bool) {
	for file, a := range s {
		if b, both := other[file]; !both || differ(a, b) {
			return file, true
		}
	}
	for file := range other {
		if _, both := s[file]; !both {
			return file, true
		}
	}
	return "", false
}
