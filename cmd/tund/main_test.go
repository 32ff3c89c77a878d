package main

import (
	"path/filepath"
	"testing"

	"tund/internal/daemon"
)

func TestConfigurationHasAWholePath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for given, want := range map[string]string{
		"tund.toml":           filepath.Join(dir, "tund.toml"),
		"./etc/../tund.toml":  filepath.Join(dir, "tund.toml"),
		"/etc/tund/tund.toml": "/etc/tund/tund.toml",
	} {
		o := daemon.Options{Config: given}
		if err := wholePath(&o); err != nil || o.Config != want {
			t.Errorf("%s: %s (%v), want %s", given, o.Config, err, want)
		}
	}
}
