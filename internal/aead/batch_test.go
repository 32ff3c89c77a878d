package aead_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"tund/internal/aead"
	"tund/internal/keys"
)

// chain returns a batch like one super-packet: count packets of size bytes, of which
// each but the first lies with its head over the tail of the one before. It returns the
// packets, too.
func chain(count, size, head int) (b *aead.Batch, packets [][]byte) {
	span := aead.ADSize + size + aead.TagSize
	b = &aead.Batch{
		Plain:  make([]byte, head+count*(size-head)),
		Sealed: randomBytes(2, count*span),
		Heads:  make([]byte, count*head),
		Jobs:   make([]aead.Job, count),
	}
	for i := range b.Jobs {
		b.Jobs[i] = aead.Job{
			Plain: i * (size - head), Sealed: i*span + aead.ADSize, Size: size, Head: i * head, HeadSize: head,
			Nonce: [12]byte(randomBytes(byte(i), 12)),
		}
		packets = append(packets, randomBytes(byte(100+i), size))
	}
	b.Jobs[0].HeadSize = 0
	return b, packets
}

// fill puts the packets of a chain where they lie before it is sealed.
func fill(b *aead.Batch, packets [][]byte) {
	for i, j := range b.Jobs {
		copy(b.Plain[j.Plain+j.HeadSize:], packets[i][j.HeadSize:])
		copy(b.Heads[j.Head:][:j.HeadSize], packets[i])
	}
}

// sealed returns the datagram of a job without its associated data.
func sealed(b *aead.Batch, i int) []byte {
	j := b.Jobs[i]
	return b.Sealed[j.Sealed:][:j.Size+aead.TagSize]
}

func ad(b *aead.Batch, i int) []byte {
	return b.Sealed[b.Jobs[i].Sealed-aead.ADSize : b.Jobs[i].Sealed]
}

var shapes = []struct{ count, size, head int }{
	{1, 0, 0}, {1, 1400, 0}, {3, 1, 0}, {2, 40, 40}, {45, 1400, 52}, {64, 100, 40}, {7, 9000, 256}, {5, 300, 0},
}

func TestSealBatchEqualsSinglesWithTheirHeads(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		for _, s := range shapes {
			b, packets := chain(s.count, s.size, s.head)
			fill(b, packets)
			want := bytes.Clone(b.Sealed)
			for i, j := range b.Jobs {
				copy(want[j.Sealed:], c.Seal(nil, j.Nonce[:], packets[i], ad(b, i)))
			}
			c.SealBatch(b)
			if !bytes.Equal(b.Sealed, want) {
				t.Errorf("%v: not the bytes of singles", s)
			}
		}
	})
}

func TestOpenBatchLeavesPayloadsOneBehindTheOther(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		for _, s := range shapes {
			b, packets := chain(s.count, s.size, s.head)
			fill(b, packets)
			plain := bytes.Clone(b.Plain)
			heads := bytes.Clone(b.Heads)
			c.SealBatch(b)
			clear(b.Plain)
			clear(b.Heads)
			if n := c.OpenBatch(b); n != s.count {
				t.Errorf("%v: opened %d", s, n)
			}
			copy(plain, packets[0])
			if !bytes.Equal(b.Heads, heads) {
				t.Errorf("%v: wrong heads", s)
			}
			// The last packet's head was never covered by another one's payload.
			if end := len(plain) - s.size; end >= 0 && !bytes.Equal(b.Plain, plain) {
				t.Errorf("%v: wrong payloads", s)
			}
		}
	})
}

func TestOpenBatchGoesOnAfterAForgedDatagram(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		for forged := range 5 {
			b, packets := chain(5, 200, 40)
			fill(b, packets)
			c.SealBatch(b)
			sealed(b, forged)[forged*50] ^= 2
			for i := range b.Plain {
				b.Plain[i] = 0xee
			}
			if n := c.OpenBatch(b); n != 4 {
				t.Errorf("opened %d of 5 with one forged", n)
			}
			for i, j := range b.Jobs {
				if want := packet(b, packets, i, forged); j.OK != (i != forged) || !bytes.Equal(opened(b, i), want) {
					t.Errorf("packet %d with %d forged: OK %v\n got %x\nwant %x", i, forged, j.OK, opened(b, i), want)
				}
			}
		}
	})
}

// packet returns what opening a job with one forged shall give.
func packet(b *aead.Batch, packets [][]byte, i, forged int) []byte {
	if i == forged {
		return make([]byte, b.Jobs[i].Size)
	}
	return packets[i]
}

// opened returns the packet of a job: its head from Heads, the rest from Plain.
func opened(b *aead.Batch, i int) []byte {
	j := b.Jobs[i]
	return slices.Concat(b.Heads[j.Head:][:j.HeadSize], b.Plain[j.Plain+j.HeadSize:j.Plain+j.Size])
}

func TestBatchRefusesEveryChangedByte(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		b, packets := chain(3, 60, 20)
		fill(b, packets)
		c.SealBatch(b)
		for at := range b.Sealed {
			b.Sealed[at] ^= 0x80
			if n := c.OpenBatch(b); n != 2 {
				t.Errorf("opened %d of 3 with byte %d changed", n, at)
			}
			b.Sealed[at] ^= 0x80
		}
		if n := c.OpenBatch(b); n != 3 {
			t.Errorf("opened %d of 3", n)
		}
	})
}

func TestBatchWorksInPlace(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		buffer := randomBytes(3, 300)
		want := bytes.Clone(buffer)
		b := &aead.Batch{Plain: buffer, Sealed: buffer, Jobs: []aead.Job{{Plain: 12, Sealed: 12, Size: 100}, {Plain: 140, Sealed: 140, Size: 1}}}
		c.SealBatch(b)
		if bytes.Equal(buffer[12:112], want[12:112]) {
			t.Error("nothing was sealed")
		}
		if n := c.OpenBatch(b); n != 2 || !bytes.Equal(buffer[:112], want[:112]) || buffer[140] != want[140] {
			t.Errorf("opened %d", n)
		}
	})
}

func TestBatchPanicsWhereAJobReachesBeyondItsBuffer(t *testing.T) {
	big := int(^uint(0) >> 1)
	good := aead.Job{Plain: 10, Sealed: 20, Size: 90, Head: 0, HeadSize: 8}
	bad := map[string]func(j *aead.Job){
		"payload behind the end":    func(j *aead.Job) { j.Plain = 11 },
		"payload before the start":  func(j *aead.Job) { j.Plain = -1 },
		"payload far away":          func(j *aead.Job) { j.Plain = big },
		"size below zero":           func(j *aead.Job) { j.Size, j.HeadSize = -1, 0 },
		"size far too big":          func(j *aead.Job) { j.Size = big },
		"tag behind the end":        func(j *aead.Job) { j.Sealed = 21 },
		"no room for the header":    func(j *aead.Job) { j.Sealed = 11 },
		"datagram before the start": func(j *aead.Job) { j.Sealed = -1 },
		"head behind the end":       func(j *aead.Job) { j.Head = 1 },
		"head before the start":     func(j *aead.Job) { j.Head = -1 },
		"head below zero":           func(j *aead.Job) { j.HeadSize = -1 },
		"head beyond the payload":   func(j *aead.Job) { j.Size = 7 },
		"head too long":             func(j *aead.Job) { j.HeadSize = aead.MaxHead + 1 },
	}
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		b := &aead.Batch{Plain: make([]byte, 100), Sealed: make([]byte, 126), Heads: make([]byte, 8), Jobs: []aead.Job{good}}
		c.SealBatch(b)
		for name, spoil := range bad {
			b.Jobs[0] = good
			spoil(&b.Jobs[0])
			if !panics(func() { c.SealBatch(b) }) || !panics(func() { c.OpenBatch(b) }) {
				t.Errorf("%s: no panic", name)
			}
		}
	})
}

func TestEmptyBatchDoesNothing(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		c.SealBatch(&aead.Batch{})
		if n := c.OpenBatch(&aead.Batch{}); n != 0 {
			t.Errorf("opened %d", n)
		}
	})
}

func TestBatchesDoNotAllocate(t *testing.T) {
	eachCipher(t, func(t *testing.T, c aead.Cipher) {
		b, packets := chain(45, 1400, 52)
		fill(b, packets)
		allocs := testing.AllocsPerRun(20, func() {
			c.SealBatch(b)
			if c.OpenBatch(b) != len(b.Jobs) {
				t.Fatal("not all opened")
			}
		})
		if allocs != 0 {
			t.Errorf("%v allocations, want 0", allocs)
		}
	})
}

func TestGoroutinesShareAnEngineAndACipher(t *testing.T) {
	eachEngine(t, func(t *testing.T, e aead.Engine) {
		shared := newCipher(t, e, keys.AES256GCM, keys.Secret{9})
		var group sync.WaitGroup
		for g := range 4 {
			group.Go(func() {
				for round := range 30 {
					if err := roundTrip(e, shared, byte(g), round); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
	})
}

// roundTrip seals and opens with a new cipher and with a shared one.
func roundTrip(e aead.Engine, shared aead.Cipher, g byte, round int) error {
	own, err := e.New(keys.AES256GCM, &keys.Secret{g, byte(round)})
	if err != nil {
		return err
	}
	defer own.Wipe()
	for _, c := range []aead.Cipher{own, shared} {
		b, packets := chain(10, 500+round, 52)
		fill(b, packets)
		c.SealBatch(b)
		if n := c.OpenBatch(b); n != 10 {
			return fmt.Errorf("goroutine %d, round %d: opened %d of 10", g, round, n)
		}
		for i := range packets {
			if !bytes.Equal(opened(b, i), packets[i]) {
				return fmt.Errorf("goroutine %d, round %d: packet %d differs", g, round, i)
			}
		}
	}
	return nil
}
