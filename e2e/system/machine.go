package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tund/e2e/lab"
)

const (
	// bootLimit bounds the wait for a boot, which takes about a second.
	bootLimit = 3 * time.Minute

	// commandLimit ends a command on a machine that hangs.
	commandLimit = 5 * time.Minute
)

// Machine is one Debian system. The methods of its [lab.Node] act on its network and ask
// its tund.
type Machine struct {
	*lab.Node

	fleet  *Fleet
	full   string // its name on this machine: control group, network namespace
	dir    string // holds its overlay
	nspawn *exec.Cmd
	pid    int // of its first process, as seen from here
}

// boot starts the machine from the root file system of a suite and waits until it is up.
func (m *Machine) boot(suite string) error {
	root, err := RootFS(suite)
	if err != nil {
		return err
	}
	if err := m.start(root); err != nil {
		return err
	}
	if err := m.awaitBoot(); err != nil {
		return fmt.Errorf("%w; its console:\n%s", err, m.console())
	}
	return nil
}

// start mounts the machine's disk, an overlay over a root file system, and starts it.
func (m *Machine) start(base string) error {
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(m.dir, name), 0o755); err != nil {
			return err
		}
	}
	overlay := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", base, m.dir, m.dir)
	if err := unix.Mount("overlay", m.root(), "overlay", 0, overlay); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return m.spawn()
}

// root is where the machine's disk can be seen from here.
func (m *Machine) root() string { return filepath.Join(m.dir, "root") }

// spawn boots the machine in control groups of its own: systemd-nspawn divides the one
// it stands in, so two machines in one would collide.
func (m *Machine) spawn() error {
	groups, err := makeGroups(m.full)
	if err != nil {
		return err
	}
	console, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = console.Close() }()
	m.nspawn = entering(groups, "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
		"--directory="+m.root(), "--machine="+m.full, "--hostname="+m.Name, "--private-network",
		"--capability=CAP_NET_ADMIN,CAP_IPC_LOCK",
		// Without bpf(2) systemd cannot enforce DeviceAllow= and IPAddressDeny=, and without
		// Landlock tund's children keep more than they would on a host.
		"--system-call-filter=bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self", "--bind="+filepath.Join(m.fleet.dir, "tun")+":/dev/net/tun",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--settings=no", "--console=pipe",
		"systemd.unit=multi-user.target")
	m.nspawn.Env = append(os.Environ(), "NOTIFY_SOCKET=", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "SYSTEMD_NSPAWN_LOCK=0")
	m.nspawn.Stdout, m.nspawn.Stderr = console, console
	return m.nspawn.Start()
}

// awaitBoot waits until the machine is up and names its network.
func (m *Machine) awaitBoot() error {
	deadline := time.Now().Add(bootLimit)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for state := "no process"; ; <-ticker.C {
		if m.pid = m.findInit(); m.pid != 0 {
			state = strings.TrimSpace(lab.Finish(m.Inside("systemctl", "is-system-running"), "", commandLimit).Stdout)
		}
		switch {
		case state == "running":
			return command("ip", "netns", "attach", m.full, strconv.Itoa(m.pid))
		case state == "degraded":
			return fmt.Errorf("booted with failed units: %s", m.Try("systemctl", "--failed", "--plain").Stdout)
		case time.Now().After(deadline):
			return fmt.Errorf("not booted within %v: %s", bootLimit, state)
		case !lab.Alive(m.nspawn.Process.Pid):
			return errors.New("systemd-nspawn has ended")
		}
	}
}

// findInit returns the id of the machine's first process, 0 before there is one.
func (m *Machine) findInit() int {
	for _, pid := range lab.Children(m.nspawn.Process.Pid) {
		if lab.ProcStatus(pid)["Name"] == "systemd" {
			return pid
		}
	}
	return 0
}

// console returns what the machine printed while it booted.
func (m *Machine) console() string {
	content, err := os.ReadFile(filepath.Join(m.dir, "console"))
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// Inside returns a command that runs on the machine, as root, in the control group of
// its first process and with a clean environment, for which nothing is looked up by this machine's PATH.
func (m *Machine) Inside(args ...string) *exec.Cmd {
	enter := []string{
		"nsenter", "-t", strconv.Itoa(m.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w",
		"/usr/bin/env", "-i", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8", "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	return entering(groupsWithin(m.full, "payload/init.scope"), append(enter, args...)...)
}

// Try runs a command on the machine and returns what it left.
func (m *Machine) Try(args ...string) lab.Result {
	return lab.Finish(m.Inside(args...), "", commandLimit)
}

// Run runs a command on the machine, which must succeed, and returns its output without
// the last line's end.
func (m *Machine) Run(args ...string) string {
	m.fleet.t.Helper()
	return m.RunInput("", args...)
}

// RunInput runs a command like [Machine.Run] with the given standard input.
func (m *Machine) RunInput(stdin string, args ...string) string {
	m.fleet.t.Helper()
	r := lab.Finish(m.Inside(args...), stdin, commandLimit)
	if r.Code != 0 {
		m.fleet.t.Fatalf("machine %s: %s: exit %d: %s%s", m.Name, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// Shell runs a line of shell on the machine, which must succeed, and returns its output.
func (m *Machine) Shell(line string) string {
	m.fleet.t.Helper()
	return m.Run("sh", "-ec", line)
}

// Put copies a file or a directory onto the machine.
func (m *Machine) Put(source, target string) {
	m.fleet.t.Helper()
	if err := command("cp", "-rT", source, filepath.Join(m.root(), target)); err != nil {
		m.fleet.t.Fatalf("machine %s: put %s: %v", m.Name, target, err)
	}
}

// Edit replaces a file of the machine as editors do, by renaming a new one over it,
// which has the owner, group and mode of the old one.
func (m *Machine) Edit(path, content string) {
	m.fleet.t.Helper()
	m.RunInput(content, "sh", "-ec", `cp -p "$0" "$0.swp"; cat >"$0.swp"; mv "$0.swp" "$0"`, path)
}

// Read returns the content of a file of the machine.
func (m *Machine) Read(path string) string {
	m.fleet.t.Helper()
	content, err := os.ReadFile(filepath.Join(m.root(), path))
	if err != nil {
		m.fleet.t.Fatalf("machine %s: %v", m.Name, err)
	}
	return string(content)
}

// reap waits for systemd-nspawn, whose machine was ended.
func (m *Machine) reap() {
	if m.nspawn != nil && m.nspawn.Process != nil {
		_ = m.nspawn.Wait() // it was killed
	}
}

// command runs a program on this machine and returns its error with what it printed.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
