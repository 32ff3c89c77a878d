//go:build !cgo && linux && amd64

package aead_test

import (
	"testing"

	"tund/internal/aead"
)

func TestBuildWithoutCgoSaysSo(t *testing.T) {
	e, err := aead.Open(aead.ChooseIPsecMB)
	if e.Name() != aead.ChooseGo || err == nil || err.Error() != "ipsec-mb: built without cgo" {
		t.Errorf("Open = %s, %v", e.Name(), err)
	}
}
