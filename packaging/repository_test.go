package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository makes a signed one of two packages that hold nothing, in t's directory.
func repository(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"apt-get", "dpkg-deb", "dpkg-scanpackages", "gpg"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s here: packages apt, dpkg-dev and gpg", program)
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // apt reads as a user of its own
		t.Fatal(err)
	}
	out := filepath.Join(dir, "apt")
	for _, version := range []string{"1.0", "2.0"} {
		if text, err := run(t, "", "make-apt-repo", out, emptyPackage(t, dir, version)); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	return out
}

func emptyPackage(t *testing.T, dir, version string) string {
	t.Helper()
	tree := filepath.Join(dir, version)
	path := filepath.Join(dir, "tund_"+version+"_amd64.deb")
	control := "Package: tund\nVersion: " + version + "\nArchitecture: amd64\nMaintainer: x <x@packages.invalid>\nDescription: empty\n"
	write(t, filepath.Join(tree, "DEBIAN", "control"), control)
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// apt runs apt-get or apt-cache with state of its own, and the repository as its only
// source, as its tund.sources tells.
func apt(t *testing.T, repository, program string, args ...string) (string, error) {
	t.Helper()
	sources, err := os.ReadFile(filepath.Join(repository, "tund.sources"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	keyring := filepath.Join(repository, "tund-archive-keyring.gpg")
	text := strings.Replace(string(sources), "/usr/share/keyrings/tund-archive-keyring.gpg", keyring, 1)
	write(t, filepath.Join(root, "etc/apt/sources.list.d/tund.sources"), text)
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "var/lib/dpkg/status"), "")
	options := []string{
		"-o", "Dir=" + root, "-o", "Dir::State::status=" + filepath.Join(root, "var/lib/dpkg/status"),
		"-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64", "-o", "APT::Sandbox::User=root",
	}
	update := exec.Command("apt-get", append(options, "-o", "APT::Update::Error-Mode=any", "update")...)
	if out, err := update.CombinedOutput(); err != nil {
		return string(out), err
	}
	out, err := exec.Command(program, append(options, args...)...).CombinedOutput()
	return string(out), err
}

func TestAptTakesThePackagesOfTheRepository(t *testing.T) {
	dir := repository(t)
	out, err := apt(t, dir, "apt-cache", "madison", "tund")
	if err != nil || !strings.Contains(out, "1.0") || !strings.Contains(out, "2.0") {
		t.Errorf("apt-cache madison: %v\n%s", err, out)
	}
	if out, err := apt(t, dir, "apt-get", "--simulate", "install", "tund"); err != nil || !strings.Contains(out, "Inst tund (2.0 ") {
		t.Errorf("apt-get install: %v\n%s", err, out)
	}
}

func TestAptRefusesWhatTheKeyHasNotSigned(t *testing.T) {
	dir := repository(t)
	path := filepath.Join(dir, "dists/stable/InRelease")
	release, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Replace(string(release), "Suite: stable", "Suite: sTable", 1))
	if out, err := apt(t, dir, "true"); err == nil || !strings.Contains(out, "signature") {
		t.Errorf("a changed release is taken: %v\n%s", err, out)
	}
	write(t, path, string(release))
	other := repository(t)
	if err := os.Rename(filepath.Join(other, "tund-archive-keyring.gpg"), filepath.Join(dir, "tund-archive-keyring.gpg")); err != nil {
		t.Fatal(err)
	}
	if out, err := apt(t, dir, "true"); err == nil || !strings.Contains(out, "NO_PUBKEY") {
		t.Errorf("the key of another repository is taken: %v\n%s", err, out)
	}
}

func TestAptRefusesAnIndexThatIsNotTheSignedOne(t *testing.T) {
	dir := repository(t)
	for _, name := range []string{"Packages", "Packages.gz"} {
		path := filepath.Join(dir, "dists/stable/main/binary-amd64", name)
		if err := os.Truncate(path, 100); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := apt(t, dir, "true"); err == nil {
		t.Errorf("a changed index is taken\n%s", out)
	}
}
