package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// defaultCache is Cache, unless TUND_TEST_CACHE names another directory.
const defaultCache = "/var/cache/tund-test"

// moduleRoot is the module's directory, seen from where "go test" runs this package.
const moduleRoot = "../.."

// suites are the root file systems in use by this process, each with a shared lock that
// lasts as long as the process.
var suites sync.Map

// Cache is where scripts/make-rootfs and scripts/make-vm keep what they made.
func Cache() string {
	if dir := os.Getenv("TUND_TEST_CACHE"); dir != "" {
		return dir
	}
	return defaultCache
}

// RootFS returns the directory of a suite's root file system, which scripts/make-rootfs
// makes first if there is none.
func RootFS(suite string) (string, error) {
	cache := Cache()
	once, _ := suites.LoadOrStore(suite, sync.OnceValue(func() error { return provide(cache, suite) }))
	if err := once.(func() error)(); err != nil {
		return "", fmt.Errorf("root file system of %s: %w", suite, err)
	}
	return filepath.Join(cache, suite), nil
}

// provide makes a root file system and locks it.
func provide(cache, suite string) error {
	script := exec.Command(filepath.Join(moduleRoot, "scripts", "make-rootfs"), suite)
	if out, err := script.CombinedOutput(); err != nil {
		return fmt.Errorf("make-rootfs: %w: %s", err, out)
	}
	lock, err := unix.Open(filepath.Join(cache, suite+".lock"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Flock(lock, unix.LOCK_SH)
}
