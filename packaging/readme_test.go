package packaging_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// made are the files of the README that its reader makes.
var made = [...]string{"/etc/tund/private.key", "invite.toml"}

// The README of an installation names what it brings and nothing else: no file of the sources.
func TestInstalledReadmeNamesOnlyWhatIsInstalled(t *testing.T) {
	list, err := os.ReadFile("files")
	if err != nil {
		t.Fatal(err)
	}
	var places []string
	readme := ""
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] == "#" {
			continue
		}
		places = append(places, fields[2])
		if fields[2] == "share/doc/tund/README.md" {
			readme = "../" + fields[1]
		}
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`[\w./-]*\w\.toml\.example|[\w./-]*\w\.(?:md|toml|key|service|socket|lua|conf)\b|\b[A-Z]{5,}\b|(?m:^ +|\x60)make [a-z-]+|\b(?:docs|packaging|scripts|cmd)/[\w./-]+`)
	found := names.FindAllString(string(text), -1)
	if len(found) < 4 {
		t.Errorf("only %q found in %s", found, readme)
	}
	for _, name := range found {
		if name == "man tund.toml" || name == "tund.toml" || slices.Contains(made[:], name) {
			continue
		}
		if !slices.ContainsFunc(places, func(p string) bool { return p == name || strings.HasSuffix(p, "/tund/"+name) }) {
			t.Errorf("%s names %s, which is not installed", readme, name)
		}
	}
}
