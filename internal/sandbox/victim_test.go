package sandbox

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyWhoIsSparedStandsBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "oom_score_adj")
	for before, want := range map[string]string{"-900\n": "0", "-1\n": "0", "0\n": "0\n", "300\n": "300\n"} {
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := standBack(file); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got[:len(want)]) != want {
			t.Errorf("%q became %q, want %q", before, got, want)
		}
	}
	if standBack(filepath.Join(t.TempDir(), "missing")) == nil {
		t.Error("no error without the file")
	}
}
