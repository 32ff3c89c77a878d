//go:build cgo && linux && amd64

package aead

// #cgo noescape mb_call_expand
// #cgo nocallback mb_call_expand
// #cgo noescape mb_seal
// #cgo nocallback mb_seal
// #cgo noescape mb_open
// #cgo nocallback mb_open
// #cgo noescape mb_seal_batch
// #cgo nocallback mb_seal_batch
// #cgo noescape mb_open_batch
// #cgo nocallback mb_open_batch
// #include <stdlib.h>
// #include "multibuffer.h"
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/cpu"

	"tund/internal/keys"
)

// verified are the versions, as major.minor, whose headers were compared with
// multibuffer.h and which passed this package's tests. The functions are called by
// name, not through the library's manager, whose layout nothing here depends on.
var verified = []uint32{0x0103, 0x0200}

// Bits of imb_get_feature_flags, the same in all verified versions.
const (
	flagAESNI      = 1 << 1
	flagPCLMULQDQ  = 1 << 2
	flagSSE42      = 1 << 4
	flagAVX2       = 1 << 6
	flagAVX512     = 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 // F, DQ, CD, BW, VL
	flagVAES       = 1 << 12
	flagVPCLMULQDQ = 1 << 13
	flagBMI2       = 1 << 18

	flagsAVX2 = flagAESNI | flagPCLMULQDQ | flagSSE42 | flagAVX2 | flagBMI2
	flagsVAES = flagsAVX2 | flagVAES | flagVPCLMULQDQ
)

// kind is one implementation in the library, and the CPUs that it is for.
type kind struct {
	name   string // as in the library's names of functions
	flags  uint64
	system bool // the kernel saves the registers
}

// kinds returns all that beat the standard library, the fastest first. In batches of
// packets of 64, 1400 and 9000 bytes the first two need about a third, 0.4 and a half of
// its time; the last, for CPUs without VAES, 0.4, 0.7 to 0.9, and the same.
func kinds() []kind {
	return []kind{
		{"vaes_avx512", flagsVAES | flagAVX512, cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512BW},
		{"vaes_avx2", flagsVAES, cpu.X86.HasAVX2}, // since 2.0
		{"avx_gen4", flagsAVX2, cpu.X86.HasAVX2},
	}
}

// multiEngine is the library, loaded for good.
type multiEngine struct {
	version   string
	kind      string
	functions C.struct_mb_functions
}

// loadMultiBuffer returns the engine of a file, not yet verified.
func loadMultiBuffer(file string) (Engine, error) { return loadKind(file, kinds()) }

// loadKind is loadMultiBuffer for some kinds, of which it takes the first that this CPU
// has.
func loadKind(file string, kinds []kind) (Engine, error) {
	name := C.CString(file)
	defer C.free(unsafe.Pointer(name))
	var text [256]C.char
	library := C.mb_load(name, &text[0], C.size_t(len(text)))
	if library == nil {
		return nil, errors.New(C.GoString(&text[0]))
	}
	e, err := newMultiEngine(library, kinds)
	if err != nil {
		C.mb_unload(library)
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return e, nil
}

func newMultiEngine(library unsafe.Pointer, kinds []kind) (*multiEngine, error) {
	v := uint32(C.mb_version(library))
	e := &multiEngine{version: fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)}
	if !slices.Contains(verified, v>>8) {
		return nil, fmt.Errorf("version %s was not verified", e.version)
	}
	flags := uint64(C.mb_features(library))
	for _, k := range kinds {
		if k.system && flags&k.flags == k.flags && e.find(library, k) {
			e.kind = k.name
			return e, nil
		}
	}
	return nil, errors.New("no faster on this CPU")
}

// find looks for the functions of a kind.
func (e *multiEngine) find(library unsafe.Pointer, k kind) bool {
	name := C.CString(k.name)
	defer C.free(unsafe.Pointer(name))
	return C.mb_find(library, name, &e.functions) != 0
}

func (*multiEngine) Name() string     { return ChooseIPsecMB }
func (e *multiEngine) Detail() string { return e.version + " " + e.kind }

func (e *multiEngine) New(a keys.AEAD, key *keys.Secret) (Cipher, error) {
	if a != keys.AES256GCM {
		return goEngine{}.New(a, key)
	}
	c := &multiCipher{functions: &e.functions, schedule: aligned(C.MB_SCHEDULE)}
	C.mb_call_expand(e.functions.expand, bytePointer(key[:]), bytePointer(c.schedule))
	return c, nil
}

// aligned returns size bytes at an address that is a multiple of 64. Go's heap does not
// move what it holds.
func aligned(size int) []byte {
	p := make([]byte, size+63)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(p))) & 63
	return p[skip:][:size:size]
}

// bytePointer is how C sees a slice.
func bytePointer(p []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.SliceData(p)) }
