//go:build cgo && linux && amd64

package aead_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/internal/aead"
)

func TestLibraryThatCannotBeTrustedIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "libIPSec_MB.so.2")
	if err := os.WriteFile(file, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for file, reason := range map[string]string{
		file:        "file too short",
		"libc.so.6": "version 0.0.0 was not verified",
	} {
		e, err := aead.OpenFiles([]string{file})
		if err == nil || !strings.Contains(err.Error(), reason) || e.Name() != aead.ChooseGo {
			t.Errorf("%s: %s, %v; want %q", file, e.Name(), err, reason)
		}
	}
}
