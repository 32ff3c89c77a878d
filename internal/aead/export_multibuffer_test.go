//go:build cgo && linux && amd64

package aead

// OpenKinds returns one engine for every kind that this CPU has, of every library that
// is there.
func OpenKinds() []Engine {
	var engines []Engine
	for _, file := range libraryFiles {
		for _, k := range kinds() {
			if e, err := loadKind(file, []kind{k}); err == nil {
				engines = append(engines, e)
			}
		}
	}
	return engines
}
