// Package lab builds small networks of real hosts for tests and demonstrations: each
// node is a network namespace with a directory of its own, in which the real tund
// runs with a real configuration file, and tunctl talks to it over its socket.
//
// It knows the programs only from outside: command lines, files, exit codes, the JSON
// of tunctl, /proc, and what passes on the wire. It must not import anything under
// internal/, so that a mistake there cannot hide itself here.
//
// Everything happens inside namespaces whose names carry the id of the process that
// made them; nothing of the machine's own network is touched. When a lab ends, it stops
// what runs, and reports every process and every device that is left. What a killed run
// left behind is removed by the next one.
//
// It needs root, and the tools ip, ping and nft.
package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// namePrefix begins the name of every namespace and directory a lab makes.
	namePrefix = "tundlab-"

	// Patience bounds a wait for what must happen, on a machine however busy: it means
	// "hangs", and measures nothing.
	Patience = time.Minute
)

// TB is what a lab needs of the test, or of the demonstration, that uses it.
// Fatalf must not return; functions given to Cleanup run last first.
type TB interface {
	Helper()
	Context() context.Context
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Lab is one set of nodes and the links between them. It is used by one goroutine.
type Lab struct {
	tb    TB
	bin   Binaries
	dir   string
	name  string
	nodes []*Node
	links int
	ends  []func()      // run when what runs on the nodes has ended
	last  time.Duration // how long what the nodes leave behind may need to go
}

// Need returns what is missing for a lab on this machine, or "" if nothing is.
func Need() string {
	if os.Geteuid() != 0 {
		return "needs root: makes network namespaces and tunnel devices"
	}
	for _, tool := range []string{"ip", "ping", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "needs the tool " + tool + ": make install-needs"
		}
	}
	return ""
}

// New returns an empty lab that ends with tb.
func New(tb TB, bin Binaries) *Lab {
	tb.Helper()
	if missing := Need(); missing != "" {
		tb.Fatalf("lab: %s", missing)
	}
	dir, err := os.MkdirTemp("", namePrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		tb.Fatalf("lab: %v", err)
	}
	// A lab also runs tunctl as a user who may not do anything: he must get as far as that.
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatalf("lab: %v", err)
	}
	l := &Lab{tb: tb, bin: bin, dir: dir, name: filepath.Base(dir), last: Patience}
	tb.Cleanup(l.close)
	return l
}

// RemoveLeftovers deletes the namespaces and directories of labs whose process is gone.
// Call it once, before the first lab.
func RemoveLeftovers() error {
	names, err := filepath.Glob(filepath.Join(namespaceDir, namePrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range names {
		name := filepath.Base(path)
		if ownerAlive(name) {
			continue
		}
		killAll(processesIn(name))
		if err := run("ip", "netns", "delete", name); err != nil {
			return err
		}
	}
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), namePrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if !ownerAlive(filepath.Base(dir)) {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownerAlive reports whether the process whose id stands in a lab's name still runs.
func ownerAlive(name string) bool {
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "-")
	if _, err := strconv.Atoi(pid); err != nil {
		return true // not a name of ours
	}
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}

// Node adds a host of the given name, with loopback up and no link yet. A name is
// used once in a lab.
func (l *Lab) Node(name string) *Node {
	l.tb.Helper()
	n := &Node{
		Name:      name,
		Dir:       filepath.Join(l.dir, name),
		Namespace: l.name + "-" + name,
		lab:       l,
		made:      []string{"lo"},
	}
	if err := os.Mkdir(n.Dir, 0o755); err != nil {
		l.tb.Fatalf("node %s: %v", name, err)
	}
	n.mustRun("ip", "netns", "add", n.Namespace)
	l.nodes = append(l.nodes, n)
	n.IP("link", "set", "lo", "up")
	return n
}

// Adopt adds a host that was made elsewhere: namespace is its network, and tunctl
// returns the command that runs tunctl there, with these arguments. What runs on it, and
// what is left when the lab ends, is the business of whoever made it; it has no files
// here, and [Node.Start] and what follows it are not for it.
func (l *Lab) Adopt(name, namespace string, tunctl func(args ...string) *exec.Cmd) *Node {
	return &Node{Name: name, Namespace: namespace, lab: l, tunctl: tunctl}
}

// close stops every node, looks for leftovers and removes what the lab made.
func (l *Lab) close() {
	for _, n := range slices.Backward(l.nodes) {
		n.conclude()
	}
	for _, end := range slices.Backward(l.ends) {
		end()
	}
	for _, n := range l.nodes {
		if err := run("ip", "netns", "delete", n.Namespace); err != nil {
			l.tb.Errorf("node %s: %v", n.Name, err)
		}
	}
	if l.tb.Failed() {
		for _, n := range l.nodes {
			if log := n.Log(); log != "" {
				l.tb.Logf("log of %s:\n%s", n.Name, log)
			}
		}
	}
	if err := os.RemoveAll(l.dir); err != nil {
		l.tb.Errorf("lab: %v", err)
	}
}

// Until asks condition every few milliseconds until it holds, and fails when it has
// not within the limit; what names it in the message.
func Until(tb TB, limit time.Duration, what string, condition func() bool) time.Duration {
	tb.Helper()
	start := time.Now()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if condition() {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			tb.Fatalf("not within %v: %s", limit, what)
			return limit
		}
		select {
		case <-ticker.C:
		case <-tb.Context().Done():
			tb.Fatalf("interrupted while waiting: %s", what)
			return limit
		}
	}
}

// run executes a command and returns its error with what it printed.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
