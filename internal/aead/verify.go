package aead

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"

	"tund/internal/keys"
)

// An engine is trusted after it
//
//  1. gave the published answers
//  2. sealed to the same bytes as the standard library, and opened what that sealed:
//     every length up to verifyShort, and verifyLong random ones up to verifyMax
//  3. refused what was changed, and left no plaintext of it
//  4. did the same in batches, with heads
//
// All of that takes a millisecond or two, and little memory: every child does it.
const (
	verifyShort = 288 // more than the longest unrolled loop takes at a time
	verifyLong  = 32
	verifyMax   = 9000
)

// knownAnswers are test cases 13, 14 and 16 of the specification of GCM (McGrew and
// Viega), for AES-256.
var knownAnswers = []struct{ key, nonce, ad, plaintext, sealed string }{
	{
		key:   "0000000000000000000000000000000000000000000000000000000000000000",
		nonce: "000000000000000000000000", sealed: "530f8afbc74536b9a963b4f1c4cb738b",
	},
	{
		key:       "0000000000000000000000000000000000000000000000000000000000000000",
		nonce:     "000000000000000000000000",
		plaintext: "00000000000000000000000000000000",
		sealed:    "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
	},
	{
		key:   "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		nonce: "cafebabefacedbaddecaf888", ad: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		plaintext: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72" +
			"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa" +
			"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
	},
}

var (
	errAnswer  = errors.New("wrong answer to a published test case")
	errDiffers = errors.New("differs from the standard library")
	errForged  = errors.New("opened what was changed")
	errLeft    = errors.New("left the plaintext of what was changed")
)

// verify says why an engine's AES-256-GCM is not to be trusted.
func verify(e Engine) error {
	for _, check := range []func(Engine) error{verifyAnswers, verifySingles, verifyBatches} {
		if err := check(e); err != nil {
			return fmt.Errorf("%s: %w", e.Detail(), err)
		}
	}
	return nil
}

func verifyAnswers(e Engine) error {
	for _, a := range knownAnswers {
		key := keys.Secret(unhex(a.key)) // published
		c, err := e.New(keys.AES256GCM, &key)
		if err != nil {
			return err
		}
		sealed := c.Seal(nil, unhex(a.nonce), unhex(a.plaintext), unhex(a.ad))
		opened, err := c.Open(nil, unhex(a.nonce), unhex(a.sealed), unhex(a.ad))
		c.Wipe()
		if err != nil || !bytes.Equal(sealed, unhex(a.sealed)) || !bytes.Equal(opened, unhex(a.plaintext)) {
			return errAnswer
		}
	}
	return nil
}

// unhex decodes the text of a table above.
func unhex(text string) []byte {
	p, err := hex.DecodeString(text)
	if err != nil {
		panic("aead: internal error: " + err.Error())
	}
	return p
}

// contest is an engine's cipher, the standard library's with the same key, and the
// random bytes that both are given. Its buffers are used again for every payload.
type contest struct {
	trial, standard Cipher
	random          []byte
	sealed, want    []byte
	opened          []byte
}

// newContest returns a contest with a key of its own.
func newContest(e Engine) (*contest, error) {
	var key keys.Secret // protects nothing
	random := unpredictable()
	_, _ = random.Read(key[:])
	trial, err := e.New(keys.AES256GCM, &key)
	if err != nil {
		return nil, err
	}
	standard, err := New(keys.AES256GCM, &key)
	if err != nil {
		return nil, err
	}
	c := &contest{
		trial: trial, standard: standard,
		random: make([]byte, NonceSize+ADSize+verifyMax),
		sealed: make([]byte, 0, verifyMax+TagSize),
		want:   make([]byte, 0, verifyMax+TagSize),
		opened: make([]byte, 0, verifyMax),
	}
	_, _ = random.Read(c.random)
	return c, nil
}

// unpredictable gives bytes that are different each time. They need not be secret, and
// crypto/rand would make the runtime open descriptors, see package sandbox.
func unpredictable() *rand.ChaCha8 {
	var seed [32]byte
	for i := 0; i < len(seed); i += 8 {
		binary.NativeEndian.PutUint64(seed[i:], rand.Uint64())
	}
	return rand.NewChaCha8(seed)
}

// number returns a number below limit, one of c.random that seed selects.
func (c *contest) number(seed, limit int) int {
	return int(binary.BigEndian.Uint32(c.random[seed*4:]) % uint32(limit))
}

func verifySingles(e Engine) error {
	c, err := newContest(e)
	if err != nil {
		return err
	}
	defer c.trial.Wipe()
	for size := range verifyShort {
		if err := c.single(size, size); err != nil {
			return err
		}
	}
	for i := range verifyLong {
		if err := c.single(i, c.number(i, verifyMax+1)); err != nil {
			return err
		}
	}
	return nil
}

// single compares one payload.
func (c *contest) single(seed, size int) error {
	nonce, rest := c.random[:NonceSize], c.random[NonceSize:]
	ad, payload := rest[:ADSize], rest[ADSize:][:size]
	sealed := c.trial.Seal(c.sealed, nonce, payload, ad)
	if !bytes.Equal(sealed, c.standard.Seal(c.want, nonce, payload, ad)) {
		return errDiffers
	}
	opened, err := c.trial.Open(c.opened, nonce, sealed, ad)
	if err != nil || !bytes.Equal(opened, payload) {
		return errDiffers
	}
	sealed[c.number(seed, len(sealed))] ^= 1 << (seed % 8)
	_, err = c.trial.Open(c.opened, nonce, sealed, ad)
	switch {
	case err == nil:
		return errForged
	case !zero(c.opened[:size]):
		return errLeft
	default:
		return nil
	}
}

// zero says whether all bytes are.
func zero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// The batch of [verifyBatches]: as many jobs, each with a head of so many bytes that
// lies over the payload before it. One of them is changed before it is opened.
const (
	verifyJobs = 6
	verifyHead = 52
	verifySize = 1400
	verifySpan = ADSize + verifySize + TagSize
)

func verifyBatches(e Engine) error {
	c, err := newContest(e)
	if err != nil {
		return err
	}
	defer c.trial.Wipe()
	trial, standard := c.batch(), c.batch()
	c.trial.SealBatch(trial)
	c.standard.SealBatch(standard)
	if !trial.equal(standard) {
		return errDiffers
	}
	changed := c.number(0, verifyJobs)
	for _, b := range []*Batch{trial, standard} {
		b.Sealed[b.Jobs[changed].Sealed+c.number(1, verifySize+TagSize)] ^= 0x10
		clear(b.Plain)
		clear(b.Heads)
	}
	opened := c.trial.OpenBatch(trial)
	switch c.standard.OpenBatch(standard); {
	case trial.Jobs[changed].OK:
		return errForged
	case opened != verifyJobs-1 || !trial.equal(standard):
		return errDiffers
	}
	return nil
}

// batch returns a batch like one super-packet.
func (c *contest) batch() *Batch {
	b := &Batch{
		Plain:  bytes.Clone(c.random[:verifyHead+verifyJobs*(verifySize-verifyHead)]),
		Sealed: bytes.Clone(c.random[:verifyJobs*verifySpan]),
		Heads:  bytes.Clone(c.random[:verifyJobs*verifyHead]),
		Jobs:   make([]Job, verifyJobs),
	}
	for i := range b.Jobs {
		b.Jobs[i] = Job{
			Plain:    i * (verifySize - verifyHead),
			Sealed:   i*verifySpan + ADSize,
			Size:     verifySize,
			Head:     i * verifyHead,
			HeadSize: verifyHead,
			Nonce:    [NonceSize]byte(c.random[i:]),
		}
	}
	return b
}

// equal says whether two batches hold the same bytes and results.
func (b *Batch) equal(other *Batch) bool {
	for i := range b.Jobs {
		if b.Jobs[i] != other.Jobs[i] {
			return false
		}
	}
	return bytes.Equal(b.Plain, other.Plain) && bytes.Equal(b.Sealed, other.Sealed) && bytes.Equal(b.Heads, other.Heads)
}
