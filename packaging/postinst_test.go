package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// installed runs the package's postinst on a system on which some groups exist, and returns what it
// gave systemd-sysusers to do, a line each, and what it said.
func installed(t *testing.T, old string, groups map[string]string) (made, said string) {
	t.Helper()
	dir := t.TempDir()
	script, err := os.ReadFile("deb/postinst")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("/etc/tund", dir, "/run/tund", dir).Replace(string(script))
	for name, body := range map[string]string{
		"getent":           `cat "` + dir + `/group.$2" 2>/dev/null`,
		"systemd-sysusers": `if [ "$1" = - ]; then cat; else echo "$1"; fi >>"` + dir + `/made"`,
		"systemd-tmpfiles": ":",
		"private.key":      "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, line := range groups {
		if err := os.WriteFile(filepath.Join(dir, "group."+name), []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", text, "postinst", "configure", old)
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	all, err := os.ReadFile(filepath.Join(dir, "made"))
	if err != nil {
		t.Fatal(err)
	}
	return string(all), string(out)
}

func TestReadersOfStatusStayThatOverAnUpgrade(t *testing.T) {
	before := map[string]string{"tund": "tund:x:998:ann,bob"}
	made, said := installed(t, "1.0", before)
	if want := "tund.conf\nm ann tund-status\nm bob tund-status\n"; made != want {
		t.Errorf("made %q, want %q", made, want)
	}
	for _, want := range []string{"gpasswd -d ann tund", "gpasswd -d bob tund"} {
		if !strings.Contains(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	}
}

func TestNobodyBecomesAReaderOtherwise(t *testing.T) {
	for name, tt := range map[string]struct {
		old    string
		groups map[string]string
	}{
		"first installation": {"", map[string]string{"tund": "tund:x:998:ann"}},
		"nobody was":         {"1.0", map[string]string{"tund": "tund:x:998:"}},
		"a later upgrade":    {"1.1", map[string]string{"tund": "tund:x:998:ann", "tund-status": "tund-status:x:997:"}},
	} {
		t.Run(name, func(t *testing.T) {
			if made, said := installed(t, tt.old, tt.groups); made != "tund.conf\n" || said != "" {
				t.Errorf("made %q, said %q", made, said)
			}
		})
	}
}
