package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"tund/e2e/lab"
)

const (
	// bootLimit bounds the wait for a boot, which takes some twenty seconds of processor time.
	bootLimit = 5 * time.Minute

	// lifeLimit is when a machine that nobody has ended ends.
	lifeLimit = 20 * time.Minute

	// pace has the machine's time, that of its clocks included, follow the instructions that its
	// processor executes, four nanoseconds each, and pass as usual while that has nothing to do. However
	// little time this machine has for it, its programs do not notice: none is late there.
	pace = "shift=2,sleep=on"

	// memory is how much the machine has, in MiB.
	memory = "768"
)

// VM is a running machine.
type VM struct {
	*lab.Shell // as root

	dir   string // holds its disk and what its kernel printed
	qemu  *exec.Cmd
	input io.Closer // the shell's
}

// Boot makes a disk, starts a machine and waits until it is up. The caller must call Close.
func Boot(ctx context.Context) (*VM, error) {
	dir, err := os.MkdirTemp("", "tund-vm-")
	if err != nil {
		return nil, err
	}
	m := &VM{dir: dir}
	if err := errors.Join(m.start(ctx), m.await()); err != nil {
		return nil, errors.Join(fmt.Errorf("boot: %w; its console:\n%s", err, m.Console()), m.Close())
	}
	return m, nil
}

// start makes all that the machine needs and starts it.
func (m *VM) start(ctx context.Context) error {
	vmlinuz, initrd, err := kernel(ctx)
	if err != nil {
		return err
	}
	image, err := disk(ctx, m.dir)
	if err != nil {
		return err
	}
	m.qemu = exec.Command("timeout", "--signal=KILL", fmt.Sprint(lifeLimit.Seconds()),
		"qemu-system-x86_64", "-accel", "tcg", "-icount", pace, "-rtc", "clock=vm", "-cpu", "max", "-smp", "1", "-m", memory, "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", vmlinuz, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 mitigations=off systemd.show_status=0",
		"-drive", "file="+image+",if=virtio,format=raw,cache=unsafe", "-serial", "file:"+m.console(),
		"-device", "virtio-serial", "-chardev", "stdio,id=shell,signal=off", "-device", "virtserialport,chardev=shell")
	input, err := m.qemu.StdinPipe()
	if err != nil {
		return err
	}
	output, writer, err := os.Pipe()
	if err != nil {
		return errors.Join(err, input.Close())
	}
	m.qemu.Stdout, m.qemu.Stderr = writer, writer
	m.input, m.Shell = input, lab.NewShell(input, output)
	return errors.Join(m.qemu.Start(), writer.Close())
}

// await waits until the machine has booted, with no unit that failed.
func (m *VM) await() error {
	if m.Shell == nil {
		return nil // start has said why
	}
	state, _, err := m.Do(bootLimit, "systemctl is-system-running --wait; systemctl --failed --plain --no-legend")
	if err == nil && state != "running" {
		err = errors.New(state)
	}
	return err
}

// console is the file with what the kernel printed.
func (m *VM) console() string { return filepath.Join(m.dir, "console") }

// Console returns what the kernel printed.
func (m *VM) Console() string {
	content, err := os.ReadFile(m.console())
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// Close ends the machine and removes what there is of it.
func (m *VM) Close() error {
	if m.Shell != nil {
		_ = m.input.Close()
		if m.qemu.Process != nil {
			_ = m.qemu.Process.Signal(os.Interrupt) // timeout passes it on
		}
		m.Drain()
		_ = m.qemu.Wait() // it was killed
	}
	return os.RemoveAll(m.dir)
}
