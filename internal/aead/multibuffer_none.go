//go:build !cgo || !linux || !amd64

package aead

import (
	"errors"
	"runtime"
)

var errNoLibrary = errors.New("built without cgo")

// loadMultiBuffer has nothing to load the library with.
func loadMultiBuffer(string) (Engine, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return nil, errors.New("not on " + runtime.GOOS + "/" + runtime.GOARCH)
	}
	return nil, errNoLibrary
}
