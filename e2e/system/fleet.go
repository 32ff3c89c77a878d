package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tund/e2e/lab"
)

// namePrefix begins the name of everything a fleet makes on this machine. The id of the
// process follows, so that what a dead one left can be told from what is in use.
const namePrefix = "tundsys-"

// Fleet is a set of machines and the links between them.
type Fleet struct {
	*lab.Lab

	t        *testing.T
	name     string
	dir      string
	machines []*Machine
}

// NewFleet returns an empty fleet that ends with the test.
func NewFleet(t *testing.T) *Fleet {
	t.Helper()
	dir, err := makeDir()
	if err != nil {
		t.Fatalf("fleet: %v", err)
	}
	f := &Fleet{Lab: lab.New(t, lab.Binaries{}), t: t, name: filepath.Base(dir), dir: dir}
	t.Cleanup(f.close)
	// The machines' disks are in memory: Debian's package manager syncs a lot.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size=2g"); err != nil {
		t.Fatalf("fleet: mount tmpfs on %s: %v", dir, err)
	}
	// The device as udev makes it on a Debian host: open to everybody, since what it
	// can do wants a capability.
	tun := filepath.Join(dir, "tun")
	if err := errors.Join(unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200))), os.Chmod(tun, 0o666)); err != nil {
		t.Fatalf("fleet: make tun device: %v", err)
	}
	return f
}

// makeDir makes the directory of a fleet. Its name is that of the fleet, and tells whoever
// sweeps where it belongs.
func makeDir() (string, error) { return os.MkdirTemp("", ownPrefix()) }

// Boot starts one machine for each name, all from the root file system of a suite, such
// as "bookworm", and returns when all have booted.
func (f *Fleet) Boot(suite string, names ...string) []*Machine {
	f.t.Helper()
	root, err := rootFS(suite)
	if err != nil {
		f.t.Fatalf("fleet: %v", err)
	}
	var booted []*Machine
	for _, name := range names {
		m := f.machine(name)
		if err := m.start(root); err != nil {
			f.t.Fatalf("machine %s: %v", name, err)
		}
		booted = append(booted, m)
	}
	var wg sync.WaitGroup
	failures := make([]error, len(booted))
	for i, m := range booted {
		wg.Go(func() { failures[i] = m.awaitBoot() })
	}
	wg.Wait()
	for i, err := range failures {
		if err != nil {
			f.t.Fatalf("machine %s: %v; its console:\n%s", booted[i].Name, err, booted[i].console())
		}
	}
	return booted
}

// machine adds a machine that does not run yet.
func (f *Fleet) machine(name string) *Machine {
	m := &Machine{fleet: f, full: f.name + "-" + name, dir: filepath.Join(f.dir, name)}
	m.Node = f.Adopt(name, m.full, func(args ...string) *exec.Cmd { return m.Inside(append([]string{"tunctl"}, args...)...) })
	f.machines = append(f.machines, m)
	return m
}

// close ends all machines at once and removes what the fleet made. Where the test has
// failed it shows what their tund said.
func (f *Fleet) close() {
	if f.t.Failed() {
		for _, m := range f.machines {
			r := m.Try("journalctl", "--quiet", "--no-hostname", "-o", "short-precise", "-n", "100", "-u", unit)
			f.t.Logf("journal of %s:\n%s%s", m.Name, r.Stdout, r.Stderr)
		}
	}
	if err := sweep(f.name); err != nil {
		f.t.Errorf("fleet: %v", err)
	}
	for _, m := range f.machines {
		m.reap()
	}
}

// Pair boots two machines called alpha and beta with a link between them.
func (f *Fleet) Pair(suite string) (alpha, beta *Machine, link *lab.Link) {
	f.t.Helper()
	both := f.Boot(suite, "alpha", "beta")
	return both[0], both[1], f.Link(both[0].Node, both[1].Node, 1500)
}

// wrap adds to an error what was being done.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
