package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// Boot starts machines, each from the root file system of its suite, such as "bookworm",
// and returns them by their names when all have booted.
func (f *Fleet) Boot(suites map[string]string) map[string]*Machine {
	f.t.Helper()
	booted := map[string]*Machine{}
	failures := make(chan error, len(suites))
	for name, suite := range suites {
		m := f.machine(name)
		booted[name] = m
		go func() { failures <- wrap("machine "+name, m.boot(suite)) }() // all are awaited below
	}
	var all []error
	for range suites {
		all = append(all, <-failures)
	}
	if err := errors.Join(all...); err != nil {
		f.t.Fatalf("fleet: %v", err)
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

// Pair boots two machines called alpha and beta, each of its suite, with a link between
// them.
func (f *Fleet) Pair(suiteA, suiteB string) (alpha, beta *Machine, link *lab.Link) {
	f.t.Helper()
	booted := f.Boot(map[string]string{"alpha": suiteA, "beta": suiteB})
	alpha, beta = booted["alpha"], booted["beta"]
	return alpha, beta, f.Link(alpha.Node, beta.Node, 1500)
}

// wrap adds to an error what was being done.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
