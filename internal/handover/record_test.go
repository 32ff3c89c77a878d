package handover

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/keys"
	"tund/internal/netcfg"
	"tund/internal/pipe"
	"tund/internal/supervisor"
	"tund/internal/wire"
)

// sample is a record of n peers; each second one has no keys.
func sample(n int) *Record {
	r := &Record{ID: NewID(), Boot: ID{1, 2, 3}, Version: "1.2.3", Resting: []wire.Index{5, 6}}
	for i := range n {
		p := Peer{
			Tunnel: uint32(i + 1), Name: fmt.Sprintf("peer%d", i), PublicKey: keys.PublicKey{byte(i)}, Mode: "tun",
			Settings: netcfg.Settings{
				Interface: fmt.Sprintf("tun%d", i), MTU: 1400, PeerAddress: netip.MustParseAddr("10.0.0.2"),
				Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/30"), netip.MustParsePrefix("fd00::1/64")},
				Routes:    []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
			},
			NextKey: 9, Restarts: 2, Stopped: time.Hour, Lost: "the child was killed",
		}
		if i%2 == 0 {
			p.Lost = ""
			p.State = sampleState()
			p.Slots = []Slot{
				{Key: 8, Generation: 1, Epoch: 3, AEAD: keys.AES256GCM, Index: 77, At: 5, Born: 4, Sends: true, Confirmed: true, ConfirmedAt: 6},
				{Key: 9, Epoch: 4, AEAD: keys.ChaCha20Poly1305, Index: wire.MaxIndex},
			}
		}
		r.Peers = append(r.Peers, p)
	}
	return r
}

func sampleState() supervisor.State {
	k := &pipe.KeyState{
		KeyID: 8, Epoch: 3, AEAD: keys.AES256GCM, Installed: time.Minute, Next: 1 << 40,
		Slots: []pipe.SlotState{{Generation: 1, SendIndex: 4, ReceiveIndex: 77, Heard: true}},
	}
	k.Send.Key, k.Receive.Key = keys.GenerateSecret(), keys.GenerateSecret()
	k.Window.Seen[3] = 0xabc
	return supervisor.State{Keys: []*pipe.KeyState{k}, End: pipe.HandedOver{Keys: 1, SendKey: 8, SendGeneration: 1, NewestKey: 9}}
}

// normal makes what is empty and what is nil the same.
func normal(r *Record) *Record {
	text := *r
	text.Peers = nil
	for _, p := range r.Peers {
		if len(p.Slots) == 0 {
			p.Slots = nil
		}
		text.Peers = append(text.Peers, p)
	}
	return &text
}

func seal(t *testing.T, r *Record) *os.File {
	t.Helper()
	f, err := r.Seal()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func contents(t *testing.T, f *os.File) []byte {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordComesBackAsItWasSealed(t *testing.T) {
	for _, n := range []int{0, 1, 5} {
		r := sample(n)
		got, err := Take([]*os.File{seal(t, r)}, r.Boot)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(normal(got), normal(r)) {
			t.Errorf("%d peers: %#v, want %#v", n, normal(got), normal(r))
		}
	}
}

func TestTakingARecordLeavesNothingOfIt(t *testing.T) {
	r := sample(1)
	f := seal(t, r)
	if !bytes.Contains(contents(t, f), r.Peers[0].State.Keys[0].Send.Key[:]) {
		t.Fatal("the sealed record holds no key: the test looks for the wrong thing")
	}
	if _, err := Take([]*os.File{f}, r.Boot); err != nil {
		t.Fatal(err)
	}
	left := contents(t, f)
	if string(left[:4]) != "TAKE" || !bytes.Equal(left[4:], make([]byte, len(left)-4)) {
		t.Errorf("left behind: %q", left)
	}
	if _, err := Take([]*os.File{f}, r.Boot); !errors.Is(err, ErrTaken) {
		t.Errorf("taken again: %v", err)
	}
}

// A taker that is killed after its mark leaves the keys; who comes next wipes them.
func TestTakenRecordIsOverwrittenByWhoFindsIt(t *testing.T) {
	r := sample(1)
	f := seal(t, r)
	if _, err := f.WriteAt([]byte("TAKE"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Take([]*os.File{f}, r.Boot); !errors.Is(err, ErrTaken) {
		t.Errorf("taken again: %v", err)
	}
	if left := contents(t, f)[4:]; !bytes.Equal(left, make([]byte, len(left))) {
		t.Error("keys are left behind")
	}
}

func TestNoRecordIsNoError(t *testing.T) {
	if r, err := Take(nil, ID{}); r != nil || err != nil {
		t.Errorf("Take = %v, %v", r, err)
	}
}

func TestOfTwoRecordsNoneIsUsed(t *testing.T) {
	r := sample(1)
	files := []*os.File{seal(t, r), seal(t, r)}
	if _, err := Take(files, r.Boot); !errors.Is(err, ErrSeveral) {
		t.Errorf("Take = %v", err)
	}
	for _, f := range files {
		if _, err := Take([]*os.File{f}, r.Boot); !errors.Is(err, ErrTaken) {
			t.Errorf("one of them alone, later: %v", err)
		}
	}
}

func TestRecordIsNotResized(t *testing.T) {
	f := seal(t, sample(1))
	if err := f.Truncate(10); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncate: %v", err)
	}
	if _, err := f.Write(make([]byte, 1)); !errors.Is(err, unix.EPERM) {
		t.Errorf("append: %v", err)
	}
}

// resealed is a record with other bytes, as a program with other ideas would make it.
func resealed(t *testing.T, p []byte) *os.File {
	t.Helper()
	f, err := newMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(p); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	return f
}

// change applies f to the bytes of a record and mends the checksum.
func change(t *testing.T, r *Record, f func(p []byte) []byte) []byte {
	t.Helper()
	p := f(contents(t, seal(t, r)))
	if len(p) >= headerSize {
		sum := checksum(p)
		copy(p[sumAt:], sum[:])
	}
	return p
}

func TestRecordInDoubtIsRefusedWithItsReason(t *testing.T) {
	r := sample(2)
	for name, c := range map[string]struct {
		change func(p []byte) []byte
		want   error
		says   string
	}{
		"truncated":         {func(p []byte) []byte { return p[:len(p)-1] }, ErrDamaged, "bytes instead of"},
		"cut in the header": {func(p []byte) []byte { return p[:headerSize-1] }, ErrFormat, "none of tund's"},
		"empty":             {func([]byte) []byte { return nil }, ErrFormat, "none of tund's"},
		"longer":            {func(p []byte) []byte { return append(p, 0) }, ErrDamaged, "bytes instead of"},
		"newer format": {func(p []byte) []byte {
			binary.BigEndian.PutUint16(p[formatAt:], formatVersion+1)
			return p
		}, ErrFormat, "version 2.1, and this tund knows 1.1"},
		"newer state": {func(p []byte) []byte {
			binary.BigEndian.PutUint16(p[stateAt:], pipe.StateVersion+1)
			return p
		}, ErrFormat, "version 1.2, and this tund knows 1.1"},
		"another magic": {func(p []byte) []byte { p[magicAt]++; return p }, ErrFormat, "none of tund's"},
		"another mark":  {func(p []byte) []byte { p[0]++; return p }, ErrFormat, "none of tund's"},
		"garbage":       {func(p []byte) []byte { p[headerSize] = 0xff; return p }, ErrDamaged, ""},
		"longer body": {func(p []byte) []byte {
			binary.BigEndian.PutUint32(p[bodyAt:], binary.BigEndian.Uint32(p[bodyAt:])+1)
			binary.BigEndian.PutUint32(p[keysAt:], binary.BigEndian.Uint32(p[keysAt:])-1)
			return p
		}, ErrDamaged, ""},
	} {
		f := resealed(t, change(t, r, c.change))
		if _, err := Take([]*os.File{f}, r.Boot); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.want, c.says)
		}
	}
}

func TestRecordOfAnotherBootIsRefused(t *testing.T) {
	r := sample(1)
	if _, err := Take([]*os.File{seal(t, r)}, ID{9}); !errors.Is(err, ErrBoot) {
		t.Errorf("Take = %v", err)
	}
	r.Boot = ID{} // it could not be read, twice
	if _, err := Take([]*os.File{seal(t, r)}, ID{}); !errors.Is(err, ErrBoot) {
		t.Errorf("Take without knowing the boot = %v", err)
	}
}

func TestFlippedBitIsFound(t *testing.T) {
	r := sample(1)
	whole := contents(t, seal(t, r))
	for at := magicAt; at < len(whole); at += 1 + len(whole)/200 {
		p := bytes.Clone(whole)
		p[at] ^= 1
		if _, err := Take([]*os.File{resealed(t, p)}, r.Boot); err == nil {
			t.Errorf("bit of byte %d flipped: taken", at)
		}
	}
}

func TestOtherFilesAreNoRecords(t *testing.T) {
	plain, err := os.Create(t.TempDir() + "/plain")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if _, err := plain.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	unsealed, err := newMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unsealed.Close() }()
	for _, f := range []*os.File{plain, unsealed} {
		if _, err := Take([]*os.File{f}, ID{}); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
}

func TestRecordOfAThousandTunnelsFits(t *testing.T) {
	r := sample(2000) // a thousand of them with keys
	began := time.Now()
	f := seal(t, r)
	sealed := time.Since(began)
	got, err := Take([]*os.File{f}, r.Boot)
	if err != nil || len(got.Peers) != len(r.Peers) || !reflect.DeepEqual(normal(got), normal(r)) {
		t.Fatalf("Take: %v", err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, sealed in %v, taken in %v", info.Size(), sealed, time.Since(began)-sealed)
}

func TestRecordPrintsNoKey(t *testing.T) {
	r := sample(1)
	secret := r.Peers[0].State.Keys[0].Send.Key
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		for _, v := range []any{r, *r, r.Peers[0], &r.Peers[0], r.Peers} {
			text := fmt.Sprintf(verb, v)
			for _, shown := range []string{string(secret[:8]), fmt.Sprintf("%x", secret[:8]), strings.Trim(fmt.Sprintf("%d", [8]byte(secret[:8])), "[]")} {
				if strings.Contains(text, shown) {
					t.Errorf("%s shows a key: %s", verb, text)
				}
			}
		}
	}
}

func TestWipedRecordHasNoKey(t *testing.T) {
	r := sample(1)
	k := r.Peers[0].State.Keys[0]
	r.Wipe()
	if !k.Send.Key.IsZero() || !k.Receive.Key.IsZero() {
		t.Error("a key is left")
	}
}

func TestKeysOfTunnelsThatNobodyClaimsAreWiped(t *testing.T) {
	r := sample(3)
	gone, kept := r.Peers[0].State.Keys[0], r.Peers[2].State.Keys[0]
	if unused := r.WipeRest([]uint32{2, 3}); !slices.Equal(unused, []wire.Index{77, wire.MaxIndex}) {
		t.Errorf("unused indexes %v", unused)
	}
	if !gone.Send.Key.IsZero() || kept.Send.Key.IsZero() || len(r.Peers[0].State.Keys) != 0 {
		t.Error("the wrong keys are wiped")
	}
	var none *Record
	if in := none.Inherited(Tunnel{Number: 1}); none.WipeRest(nil) != nil || none.Of("a") != nil || in.Peer != nil {
		t.Error("no record holds something")
	}
	if in := r.Inherited(Tunnel{Number: 3}); in.Peer != &r.Peers[2] || r.Of("peer1") != &r.Peers[1] || r.Of("peer9") != nil {
		t.Errorf("inherited %v", in.Peer)
	}
}

func TestBootIsTheSameWithinABoot(t *testing.T) {
	a, err := Boot()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Boot(); a != b || err != nil || a == (ID{}) {
		t.Errorf("boot ids %s and %s, %v", a, b, err)
	}
}

// What parses encodes to the same bytes.
func FuzzParse(f *testing.F) {
	for _, n := range []int{0, 1, 2} {
		p, err := sample(n).encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= headerSize { // or nothing would get past it
			sum := sha256.Sum256(append(bytes.Clone(p[magicAt:sumAt]), p[headerSize:]...))
			copy(p[sumAt:], sum[:])
		}
		r, err := parse(p)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil || !bytes.Equal(again[magicAt:], p[magicAt:]) {
			t.Errorf("encodes to %x, %v; was %x", again, err, p)
		}
	})
}
