package watch

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// pattern is the last element of an entry that stands for many files.
const pattern = "*.toml"

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// plan is what to watch so that no change of a list of files goes unseen. All its
// paths are free of symbolic links but in their last element, so each directory has
// one name only.
type plan struct {
	dirs     map[string]bool // directories to watch
	names    map[string]bool // paths in them that matter: files, links, what is missing
	patterns map[string]bool // directories in which every *.toml matters
}

func newPlan(files []string) plan {
	p := plan{dirs: make(map[string]bool), names: make(map[string]bool), patterns: make(map[string]bool)}
	for _, file := range files {
		if filepath.Base(file) == pattern {
			p.addPattern(filepath.Dir(file))
		} else {
			p.follow(file)
		}
	}
	return p
}

// addPattern adds a directory and the files in it now, which may be links.
func (p *plan) addPattern(dir string) {
	dir, ok := p.follow(dir)
	if !ok {
		return
	}
	p.dirs[dir], p.patterns[dir] = true, true
	for _, name := range matches(dir) {
		p.follow(filepath.Join(dir, name))
	}
}

// matters says whether an event at path can mean a change.
func (p *plan) matters(path string) bool {
	return p.names[path] || p.dirs[path] || p.patterns[filepath.Dir(path)] && isMatch(filepath.Base(path))
}

// isDirectory says whether path is a watched directory, whose watch may be lost.
func (p *plan) isDirectory(path string) bool { return p.dirs[path] }

// follow adds the links that path leads through and what it leads to, and returns
// that. It returns false where the way ends early: then what is missing is added.
func (p *plan) follow(path string) (string, bool) {
	at, rest, links := "/", split(path), 0
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			p.add(next)
			return "", false
		case info.Mode()&fs.ModeSymlink != 0:
			p.add(next)
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				return "", false
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(split(target), rest...)
		case len(rest) == 0:
			p.add(next)
			return next, true
		default: // not a directory: the next Lstat fails, and its name stands for it
			if !info.IsDir() {
				p.add(next)
				return "", false
			}
			at = next
		}
	}
	return at, true
}

// add adds one path and the directory that holds it.
func (p *plan) add(path string) {
	p.names[path] = true
	p.dirs[filepath.Dir(path)] = true
}

// split returns the elements of a path. Those that are ".." stay: behind a link they
// do not mean what comes before it.
func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// matches returns the names in dir that the pattern stands for.
func matches(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if isMatch(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func isMatch(name string) bool {
	return strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".")
}
