package datapath

import (
	"bytes"
	"errors"
	"testing"
	"unsafe"

	"tund/internal/aead"
	"tund/internal/segment"
	"tund/internal/udp"
	"tund/internal/wire"
)

// places is a tape that notes where in memory packets lie when they are handed over.
type places struct {
	*tape
	read, sent, received, written uintptr
	length                        int // of what was written
}

// whereIs returns the address of what b holds, or would hold.
func whereIs(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func (a *places) Read(p []byte) (int, error) {
	n, err := a.tape.Read(p)
	if err == nil {
		a.read = whereIs(p)
	}
	return n, err
}

func (a *places) SendRuns(runs []udp.Run) (int, error) {
	a.sent = whereIs(runs[0].Bytes)
	return a.tape.SendRuns(runs)
}

func (a *places) Recv(p []byte) (n, size int, err error) {
	a.received = whereIs(p)
	return a.tape.Recv(p)
}

func (a *places) Write(p []byte) (int, error) {
	a.written, a.length = whereIs(p), len(p)
	return a.tape.Write(p)
}

// witness is a cipher that notes where it finds each payload, and where it puts it.
type witness struct {
	aead.Cipher
	from, to []uintptr
	calls    int
}

func (w *witness) SealBatch(b *aead.Batch) {
	for _, j := range b.Jobs {
		w.from, w.to = append(w.from, whereIs(b.Plain[j.Plain:])), append(w.to, whereIs(b.Sealed[j.Sealed:]))
	}
	w.calls++
	w.Cipher.SealBatch(b)
}

func (w *witness) Open(dst, nonce, ciphertext, ad []byte) ([]byte, error) {
	w.calls++
	w.from, w.to = append(w.from, whereIs(ciphertext)), append(w.to, whereIs(dst))
	return w.Cipher.Open(dst, nonce, ciphertext, ad)
}

func (w *witness) OpenBatch(b *aead.Batch) int {
	for _, j := range b.Jobs {
		w.from, w.to = append(w.from, whereIs(b.Sealed[j.Sealed:])), append(w.to, whereIs(b.Plain[j.Plain:]))
	}
	w.calls++
	return w.Cipher.OpenBatch(b)
}

// want fails the test unless payload number k was found and put so many bytes behind the
// one before, from these addresses on.
func (w *witness) want(t *testing.T, what string, count int, from uintptr, stepFrom int, to uintptr, stepTo int) {
	t.Helper()
	if len(w.from) != count {
		t.Fatalf("%s: %d payloads, want %d", what, len(w.from), count)
	}
	for k := range count {
		if w.from[k] != from+uintptr(k*stepFrom) || w.to[k] != to+uintptr(k*stepTo) {
			t.Fatalf("%s: payload %d went from %#x to %#x, want from %#x to %#x", what, k,
				w.from[k], w.to[k], from+uintptr(k*stepFrom), to+uintptr(k*stepTo))
		}
	}
}

// On its way through a child nothing touches payload but the kernel and the cipher: it is
// sealed where it was read into what is sent, and opened where it was received into what
// is written, each segment behind the other.
func TestOnlyTheCipherMovesPayload(t *testing.T) {
	const count, size, headers = 40, 1400, 40
	o, i, d := newSuperLoops(t, count, size)
	a := &places{tape: d}
	o.device, i.device, o.socket = a, a, a
	e := o.table.Load().send.epoch
	seals, opens := &witness{Cipher: e.send.cipher}, &witness{Cipher: e.receive.cipher}
	e.send.cipher, e.receive.cipher = seals, opens
	original := bytes.Clone(d.packet)
	d.packets, d.received = 1, 1
	if err := errors.Join(o.work(), i.batch()); err != nil {
		t.Fatal(err)
	}
	seals.want(t, "sealed", count, a.read+segment.VirtioSize, size, a.sent+wire.HeaderSize, headers+size+wire.Overhead)
	opens.want(t, "opened", count, a.received+wire.HeaderSize, headers+size+wire.Overhead, a.written+segment.VirtioSize, size)
	if d.written != 1 || a.length != segment.VirtioSize+len(original) || i.counters.packets.Load() != count {
		t.Errorf("%d writes, %d bytes, %d packets", d.written, a.length, i.counters.packets.Load())
	}
	// The first payload is opened alone: it says what may continue it.
	if seals.calls != 1 || opens.calls != 2 {
		t.Errorf("%d calls to seal, %d to open, want 1 and 2", seals.calls, opens.calls)
	}
	if n := o.counters.checksums.Load(); n != 0 {
		t.Errorf("%d checksums completed", n)
	}
}
