//go:build cgo && linux && amd64

package aead_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
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

func TestEveryKindThatTheLibraryHasIsRight(t *testing.T) {
	engines := aead.OpenKinds()
	if len(engines) == 0 {
		t.Skip("no library, or a CPU without AVX2")
	}
	for _, e := range engines {
		t.Run(e.Detail(), func(t *testing.T) {
			for round := range 20 {
				shared := newCipher(t, e, keys.AES256GCM, keys.Secret{9})
				if err := errors.Join(aead.Verify(e), roundTrip(e, shared, 1, round)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestLoadingLeavesNoDescriptorOpen(t *testing.T) {
	before := descriptors(t)
	open(t, aead.ChooseIPsecMB)
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// descriptors counts those of this process, the one that reads them included.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
