package config_test

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tund/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testPath is where the texts of testdata are said to come from.
const testPath = "/etc/tund/tund.toml"

// golden compares got with a golden file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func TestEveryFileOfTestdataGivesItsGoldenTextOrErrors(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			base := strings.TrimSuffix(path, ".toml")
			cfg, err := config.Parse(testPath, data)
			if err != nil {
				refuseGolden(t, base+".ok")
				golden(t, base+".err", err.Error()+"\n")
				return
			}
			refuseGolden(t, base+".err")
			golden(t, base+".ok", cfg.Text())
			checkRoundTrip(t, cfg)
		})
	}
}

// refuseGolden fails if there is a golden file for the other outcome.
func refuseGolden(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s does not describe what happened", path)
	}
}

// checkRoundTrip parses the normalised text and compares.
func checkRoundTrip(t *testing.T, cfg *config.Config) {
	t.Helper()
	again, err := config.Parse(testPath, []byte(cfg.Text()))
	if err != nil {
		t.Fatalf("normalised text is refused: %v\n%s", err, cfg.Text())
	}
	if !reflect.DeepEqual(cfg, again) {
		t.Errorf("normalised text gives another configuration:\n%s\n%s", cfg.Text(), again.Text())
	}
}
