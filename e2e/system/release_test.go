package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// The versions of the package that the tests install: one, and the next.
const (
	older = "0.0.1"
	newer = "0.0.2"
)

// where the repository lies on a machine, and what apt is told of it.
const (
	repositoryOnMachine = "/srv/apt"
	sources             = "Types: deb\nURIs: file:" + repositoryOnMachine + "\nSuites: stable\nComponents: main\n" +
		"Signed-By: /usr/share/keyrings/tund-archive-keyring.gpg\n"
)

// repositories returns a directory with two signed repositories, one called after each
// version: the first has only that, the second both. They are made at the first call;
// TUND_REPOSITORIES names some that are there already.
func repositories(t *testing.T) string {
	t.Helper()
	dir, err := makeRepositories()
	if err != nil {
		t.Fatalf("repositories: %v", err)
	}
	return dir
}

// scratch is a directory that goes when the tests end.
var scratch string

var makeRepositories = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("TUND_REPOSITORIES"); dir != "" {
		return filepath.Abs(dir)
	}
	versions := []string{older, newer}
	packages, failures := make([]string, len(versions)), make([]error, len(versions))
	var wg sync.WaitGroup
	for i, version := range versions {
		wg.Go(func() { packages[i], failures[i] = buildPackage(version) })
	}
	wg.Wait()
	if err := errors.Join(failures...); err != nil {
		return "", err
	}
	for i, version := range versions {
		if err := makeRepository(version, packages[:i+1]); err != nil {
			return "", err
		}
	}
	return scratch, nil
})

// buildPackage makes the package of a version and returns its path. It compresses little:
// half of the time would go into that.
func buildPackage(version string) (string, error) {
	dir := filepath.Join(scratch, "packages", version)
	cmd := exec.Command(filepath.Join(moduleRoot, "packaging", "build-deb"), dir)
	cmd.Env = append(os.Environ(), "VERSION="+version, "DPKG_DEB_COMPRESSOR_TYPE=gzip", "DPKG_DEB_COMPRESSOR_LEVEL=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", version, err, out)
	}
	return filepath.Join(dir, packageName(version)), nil
}

// makeRepository makes a repository of packages. All are signed with the same key.
func makeRepository(name string, packages []string) error {
	cmd := exec.Command(filepath.Join(moduleRoot, "packaging", "make-apt-repo"), append([]string{filepath.Join(scratch, name)}, packages...)...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+filepath.Join(scratch, "key"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make repository: %w: %s", err, out)
	}
	return nil
}

// packageName is the name of a version's package for this architecture.
func packageName(version string) string {
	return fmt.Sprintf("tund_%s_%s.deb", version, runtime.GOARCH)
}

// know makes a repository known to the machine's apt, in place of another.
func know(t *testing.T, m *Machine, version string) {
	t.Helper()
	dir := filepath.Join(repositories(t), version)
	m.Put(dir, repositoryOnMachine)
	m.Put(filepath.Join(dir, "tund-archive-keyring.gpg"), "/usr/share/keyrings/tund-archive-keyring.gpg")
	m.RunInput(sources, "sh", "-c", "cat >/etc/apt/sources.list.d/tund.sources")
	m.Run("apt-get", "update", "-qq")
}
