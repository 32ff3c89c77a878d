package config_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"tund/internal/config"
)

// shownDefault matches a line of the example that shows a default.
var shownDefault = regexp.MustCompile(`(?m)^#([a-z_]+ = .*)$`)

// readExample returns the text of tund.toml.example with its keys in a site.
func readExample(t *testing.T, s *site) string {
	t.Helper()
	data, err := os.ReadFile("../../tund.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	s.writeSecret("private.key")
	s.writeSecret("beta.psk")
	return regexp.MustCompile(`(?m)^([a-z_]+ = ")/etc/tund/`).ReplaceAllString(string(data), "${1}"+s.dir+"/")
}

func TestExampleIsAcceptedAndItsShownDefaultsAreTheDefaults(t *testing.T) {
	s := &site{t: t, dir: t.TempDir()}
	text := readExample(t, s)
	s.write("tund.toml", text)
	asShipped := s.load()
	s.write("tund.toml", shownDefault.ReplaceAllString(text, "$1"))
	withDefaults := s.load()
	withDefaults.Digest = asShipped.Digest
	if !reflect.DeepEqual(asShipped, withDefaults) {
		t.Errorf("the example shows other defaults:\n%s\n%s", asShipped.Text(), withDefaults.Text())
	}
}

func TestExampleShowsEveryKeyWithItsClassAndDefault(t *testing.T) {
	text := readExample(t, &site{t: t, dir: t.TempDir()})
	for _, k := range config.Schema() {
		if !strings.Contains(text, "\n# "+k.Name+" ("+string(k.Class)) {
			t.Errorf("%s (%s) has no heading", k.Name, k.Class)
		}
		given := strings.Contains(text, "\n"+k.Name+" = ")
		shown := strings.Contains(text, "\n#"+k.Name+" = "+k.Default+"\n")
		if !given && !shown {
			t.Errorf("%s is neither given nor shown with its default %s", k.Name, k.Default)
		}
	}
}

func TestExampleHasNoLineThatIsTooLong(t *testing.T) {
	for line := range strings.Lines(readExample(t, &site{t: t, dir: "/"})) {
		if len(line) > 100 {
			t.Errorf("%d bytes: %s", len(line), line)
		}
	}
}
