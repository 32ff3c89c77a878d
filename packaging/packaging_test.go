// Package packaging_test tests the scripts that make the Debian package and a repository
// of it. The package itself is judged by check-deb, and used by e2e/system.
package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a script and returns what it prints.
func run(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	if _, err := os.ReadFile(args[0]); err != nil { // so go test knows what the result depends on
		t.Fatal(err)
	}
	path, err := filepath.Abs(args[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestVersionsBecomeThoseOfDebian(t *testing.T) {
	for version, want := range map[string]string{
		"1.2.0":                     "1.2.0",
		"v1.2.0":                    "1.2.0",
		"v1.2.0-5-gabcdef0":         "1.2.0+5.gabcdef0",
		"v1.2.0-5-gabcdef0-dirty":   "1.2.0+5.gabcdef0.dirty",
		"v1.3.0-rc1":                "1.3.0~rc1",
		"v1.3.0-rc1-2-gabcdef0":     "1.3.0~rc1+2.gabcdef0",
		"v0.0.0-358-gabcdef0-dirty": "0.0.0+358.gabcdef0.dirty",
	} {
		if got, err := run(t, "", "debian-version", version); err != nil || got != want+"\n" {
			t.Errorf("%s becomes %q, %v, want %s", version, got, err, want)
		}
	}
	for _, version := range []string{"none", "1.2 0", "1_2"} {
		if got, err := run(t, "", "debian-version", version); err == nil {
			t.Errorf("%q is taken, as %q", version, got)
		}
	}
}

const changes = `# Changes

## Unreleased

- A change whose description is longer than one line of Debian's changelog may be, which is
  eighty characters.

## 1.1.0 (2026-10-20)

- One.
- Two.
`

func TestChangesBecomeDebiansChangelog(t *testing.T) {
	const released = `tund (1.1.0) unstable; urgency=medium

  * One.
  * Two.

 -- tund developers <tund@packages.invalid>  Tue, 20 Oct 2026 00:00:00 +0000

`
	const now = " -- tund developers <tund@packages.invalid>  Mon, 21 Sep 2026 14:13:20 +0000\n\n"
	_, only, _ := strings.Cut(changes, "## 1.1.0")
	for _, c := range []struct{ version, from, want string }{
		{"1.2.0", changes, `tund (1.2.0) unstable; urgency=medium

  * A change whose description is longer than one line of Debian's changelog
    may be, which is eighty characters.

` + now + released},
		{"1.1.0", "## 1.1.0" + only, released},
		{"1.1.1", "## 1.1.0" + only, "tund (1.1.1) unstable; urgency=medium\n\n  * Nothing worth telling.\n\n" + now + released},
	} {
		if got, err := run(t, c.from, "debian-changelog", c.version); err != nil || got != c.want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", c.version, err, got, c.want)
		}
	}
}
