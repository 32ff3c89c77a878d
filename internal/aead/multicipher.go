//go:build cgo && linux && amd64

package aead

// #include "multibuffer.h"
import "C"

import (
	"errors"
	"runtime"
	"slices"
	"unsafe"
)

var errOpen = errors.New("aead: message authentication failed")

// maxPayload is the limit of GCM for one payload.
const maxPayload = 1<<36 - 32

// The job of Go and that of C are the same bytes.
const (
	_ = -(unsafe.Sizeof(Job{}) ^ uintptr(C.sizeof_struct_mb_job))
	_ = -(unsafe.Offsetof(Job{}.Nonce) ^ unsafe.Offsetof(C.struct_mb_job{}.nonce))
	_ = -(unsafe.Offsetof(Job{}.OK) ^ unsafe.Offsetof(C.struct_mb_job{}.ok))
	_ = -(uint(MaxHead) ^ C.MB_MAX_HEAD)
	_ = -(uint(ADSize) ^ C.MB_AD)
	_ = -(uint(TagSize) ^ C.MB_TAG)
)

// multiCipher is one key for AES-256-GCM. The expanded key lies in memory of Go's, which
// holds no pointers; nothing changes it but Wipe.
type multiCipher struct {
	functions *C.struct_mb_functions
	schedule  []byte // nil after Wipe
}

func (*multiCipher) NonceSize() int { return NonceSize }
func (*multiCipher) Overhead() int  { return TagSize }

// Seal is that of [cipher.AEAD].
func (c *multiCipher) Seal(dst, nonce, plaintext, ad []byte) []byte {
	c.mustFit(nonce, len(plaintext))
	whole := slices.Grow(dst, len(plaintext)+TagSize)[:len(dst)+len(plaintext)+TagSize]
	out := whole[len(dst):]
	mustNotShift(out, plaintext)
	C.mb_seal(c.functions.seal, bytePointer(c.schedule), bytePointer(out), bytePointer(plaintext),
		C.uint64_t(len(plaintext)), bytePointer(nonce), bytePointer(ad), C.uint64_t(len(ad)))
	return whole
}

// Open is that of [cipher.AEAD].
func (c *multiCipher) Open(dst, nonce, ciphertext, ad []byte) ([]byte, error) {
	size := len(ciphertext) - TagSize
	if size < 0 {
		return nil, errOpen
	}
	c.mustFit(nonce, size)
	whole := slices.Grow(dst, size)[:len(dst)+size]
	out := whole[len(dst):]
	mustNotShift(out, ciphertext)
	if C.mb_open(c.functions.open, bytePointer(c.schedule), bytePointer(out), bytePointer(ciphertext),
		C.uint64_t(size), bytePointer(nonce), bytePointer(ad), C.uint64_t(len(ad))) == 0 {
		return nil, errOpen
	}
	return whole, nil
}

func (c *multiCipher) SealBatch(b *Batch) {
	c.mustHaveKey()
	b.check()
	C.mb_seal_batch(c.functions.seal, bytePointer(c.schedule), bytePointer(b.Plain), bytePointer(b.Sealed),
		bytePointer(b.Heads), jobPointer(b.Jobs), C.size_t(len(b.Jobs)))
}

func (c *multiCipher) OpenBatch(b *Batch) int {
	c.mustHaveKey()
	b.check()
	return int(C.mb_open_batch(c.functions.open, bytePointer(c.schedule), bytePointer(b.Plain), bytePointer(b.Sealed),
		bytePointer(b.Heads), jobPointer(b.Jobs), C.size_t(len(b.Jobs))))
}

//go:noinline
func (c *multiCipher) Wipe() {
	clear(c.schedule)
	runtime.KeepAlive(c.schedule)
	c.schedule = nil
}

// mustHaveKey keeps a wiped key, which is one that everybody knows, from being used.
func (c *multiCipher) mustHaveKey() {
	if c.schedule == nil {
		panic("aead: internal error: cipher used after Wipe")
	}
}

func (c *multiCipher) mustFit(nonce []byte, size int) {
	c.mustHaveKey()
	if len(nonce) != NonceSize || size > maxPayload {
		panic("aead: internal error: wrong size of nonce or payload")
	}
}

// mustNotShift panics if the buffers overlap and are not the same.
func mustNotShift(out, in []byte) {
	if len(out) == 0 || len(in) == 0 || &out[0] == &in[0] {
		return
	}
	o, i := uintptr(unsafe.Pointer(&out[0])), uintptr(unsafe.Pointer(&in[0]))
	if o < i+uintptr(len(in)) && i < o+uintptr(len(out)) {
		panic("aead: internal error: buffers overlap")
	}
}

func jobPointer(jobs []Job) *C.struct_mb_job {
	return (*C.struct_mb_job)(unsafe.Pointer(unsafe.SliceData(jobs)))
}
