package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"tund/e2e/system"
)

// moduleRoot is the module's directory, seen from where "go test" runs this package.
const moduleRoot = "../.."

// version is that of the package that is installed.
const version = "0.0.1"

// makeDisk writes the file of a disk with the package installed. All that it mounts goes with
// the mount namespace of the shell.
const makeDisk = `
base=$1 deb=$2 disk=$3
work=$(mktemp -d "$disk.XXXXXX")
mkdir "$work/upper" "$work/work" "$work/tree"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/work" "$work/tree"
mkdir "$work/tree/install"
cp -r guest/. "$deb" "$work/tree/install"
mount -t proc proc "$work/tree/proc"
chroot "$work/tree" sh /install/install.sh "/install/${deb##*/}" /install/units
umount "$work/tree/proc"
rm -r "$work/tree/install"
mke2fs -q -t ext4 -O ^has_journal -d "$work/tree" "$disk" 600M
umount "$work/tree"
rm -r "$work"
`

// disk builds the package, installs it, and returns the path of the disk, in dir.
func disk(ctx context.Context, dir string) (string, error) {
	base, err := system.RootFS("bookworm")
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, filepath.Join(moduleRoot, "packaging", "build-deb"), dir)
	// Half of the time would go into compression.
	build.Env = append(os.Environ(), "VERSION="+version, "DPKG_DEB_COMPRESSOR_TYPE=gzip", "DPKG_DEB_COMPRESSOR_LEVEL=1")
	if err := finish("build package", build); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "disk")
	deb := filepath.Join(dir, "tund_"+version+"_amd64.deb")
	return path, finish("make disk", exec.CommandContext(ctx, "unshare", "--mount", "sh", "-euc", makeDisk, "sh", base, deb, path))
}

// kernel has scripts/make-vm make the kernel and its first file system, unless they are there, and
// returns their paths.
func kernel(ctx context.Context) (vmlinuz, initrd string, err error) {
	if err := finish("make kernel", exec.CommandContext(ctx, filepath.Join(moduleRoot, "scripts", "make-vm"))); err != nil {
		return "", "", err
	}
	dir := filepath.Join(system.Cache(), "vm")
	return filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd"), nil
}

// finish runs a command and returns its error with what it printed.
func finish(what string, cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", what, err, out)
	}
	return nil
}
