// Package scripts holds nothing but tests of the scripts beside them.
package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// need is a line of the list: a package of a group, and the programs it is there for.
type need struct {
	group, pkg string
	programs   []string
}

// needs reads the list that install-needs and with-needs read.
func needs(t *testing.T) (list []need) {
	t.Helper()
	text, err := os.ReadFile("needs")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if len(words) < 2 {
			t.Fatalf("needs: %q", line)
		}
		list = append(list, need{words[0], words[1], words[2:]})
	}
	return list
}

// found asks with-needs where programs are, for a command that may use these groups.
func found(t *testing.T, path string, groups []string, programs ...string) map[string]string {
	t.Helper()
	args := append(append([]string{}, groups...), "--", "sh", "-c", `for name; do echo "$name $(command -v "$name" || true)"; done`, "sh")
	cmd := exec.Command("./with-needs", append(args, programs...)...)
	cmd.Env = append(os.Environ(), "PATH="+path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("with-needs %v: %v: %s", groups, err, out)
	}
	places := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, place, _ := strings.Cut(strings.TrimSpace(line), " ")
		places[name] = place
	}
	return places
}

func installed(t *testing.T, pkg string) bool {
	t.Helper()
	out, err := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Status}", pkg).Output()
	return err == nil && string(out) == "installed"
}

func needDpkg(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("no Debian: nothing is installed, and nothing hidden")
	}
}

// What the machine has and no line of the list declares is not found, wherever it is; what is
// essential, Go's, or declared is.
func TestOnlyDeclaredProgramsAreFound(t *testing.T) {
	needDpkg(t)
	dir := t.TempDir()
	const stray = "tund-stray-program"
	if err := os.WriteFile(filepath.Join(dir, stray), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := dir + ":" + os.Getenv("PATH")
	places := found(t, path, []string{"tools"}, stray, "iperf3", "openvpn", "tshark", "sh", "grep", "setpriv", "go", "gofmt")
	for _, name := range []string{stray, "iperf3", "openvpn", "tshark"} {
		if places[name] != "" {
			t.Errorf("%s is found at %s", name, places[name])
		}
	}
	for _, name := range []string{"sh", "grep", "setpriv", "go", "gofmt"} {
		if places[name] == "" {
			t.Errorf("%s is not found", name)
		}
	}
}

// Each program of the list comes with the package that it stands beside, where that is installed.
func TestDeclaredProgramsAreFound(t *testing.T) {
	needDpkg(t)
	for _, n := range needs(t) {
		if !installed(t, n.pkg) || len(n.programs) == 0 {
			continue
		}
		for name, place := range found(t, os.Getenv("PATH"), []string{n.group}, n.programs...) {
			if place == "" {
				t.Errorf("%s is not found, though %s is installed", name, n.pkg)
			}
		}
	}
}
