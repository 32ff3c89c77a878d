package keys_test

import (
	"bytes"
	"errors"
	"testing"

	"tund/internal/keys"
)

// input returns a valid input in which no two parts are alike.
func input() keys.Input {
	psk := keys.Secret(bytes.Repeat([]byte{4}, 32))
	return keys.Input{
		Chain:    keys.Secret(bytes.Repeat([]byte{1}, 32)),
		X25519:   bytes.Repeat([]byte{2}, 32),
		MLKEM:    bytes.Repeat([]byte{3}, 32),
		PSK:      &psk,
		Dialler:  keys.PublicKey{5},
		Listener: keys.PublicKey{6},
		TH:       [32]byte{7},
	}
}

func derive(t *testing.T, in keys.Input) *keys.Material {
	t.Helper()
	m, err := keys.Derive(&in)
	if err != nil {
		t.Fatalf("Derive: %v", err)
	}
	return m
}

func TestDeriveGivesBothNodesTheSame(t *testing.T) {
	a, b := derive(t, input()), derive(t, input())
	for _, sender := range []keys.PublicKey{{5}, {6}} {
		if a.Data(sender) != b.Data(sender) || a.Tag(sender) != b.Tag(sender) {
			t.Errorf("sender %s: not the same", sender)
		}
	}
	if !a.Chain.Equal(&b.Chain) {
		t.Error("chain: not the same")
	}
}

func TestDeriveGivesEachSenderItsOwn(t *testing.T) {
	m := derive(t, input())
	a, b := m.Data(keys.PublicKey{5}), m.Data(keys.PublicKey{6})
	if a.Key.Equal(&b.Key) || a.IV == b.IV || m.Tag(keys.PublicKey{5}) == m.Tag(keys.PublicKey{6}) {
		t.Error("the two senders share something")
	}
}

func TestEveryInputChangesEveryOutput(t *testing.T) {
	changes := map[string]func(*keys.Input){
		"chain":     func(in *keys.Input) { in.Chain[31] ^= 1 },
		"x25519":    func(in *keys.Input) { in.X25519[31] ^= 1 },
		"ml-kem":    func(in *keys.Input) { in.MLKEM[0] ^= 1 },
		"psk":       func(in *keys.Input) { in.PSK[0] ^= 1 },
		"no psk":    func(in *keys.Input) { in.PSK = nil },
		"hash":      func(in *keys.Input) { in.TH[31] ^= 1 },
		"the roles": func(in *keys.Input) { in.Dialler, in.Listener = in.Listener, in.Dialler },
	}
	want := derive(t, input())
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			in := input()
			change(&in)
			got := derive(t, in)
			if got.Chain.Equal(&want.Chain) {
				t.Error("chain did not change")
			}
			for _, sender := range []keys.PublicKey{{5}, {6}} {
				if got.Data(sender) == want.Data(sender) || got.Tag(sender) == want.Tag(sender) {
					t.Errorf("sender %s: key or tag did not change", sender)
				}
			}
		})
	}
}

func TestDeriveRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*keys.Input)
		want   error
	}{
		"no x25519":        {func(in *keys.Input) { in.X25519 = nil }, keys.ErrShare},
		"a long ml-kem":    {func(in *keys.Input) { in.MLKEM = make([]byte, 33) }, keys.ErrShare},
		"no chain":         {func(in *keys.Input) { in.Chain.Wipe() }, keys.ErrSecretNil},
		"a zero psk":       {func(in *keys.Input) { in.PSK = &keys.Secret{} }, keys.ErrSecretNil},
		"one node's key":   {func(in *keys.Input) { in.Listener = in.Dialler }, keys.ErrOneKey},
		"no keys of nodes": {func(in *keys.Input) { in.Listener, in.Dialler = keys.PublicKey{}, keys.PublicKey{} }, keys.ErrOneKey},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := input()
			tt.change(&in)
			if m, err := keys.Derive(&in); !errors.Is(err, tt.want) || m != nil {
				t.Errorf("Derive = %v, %v, want %v", m, err, tt.want)
			}
		})
	}
}

func TestDeriveLeavesItsInputAlone(t *testing.T) {
	in, want := input(), input()
	derive(t, in)
	if !bytes.Equal(in.X25519, want.X25519) || !bytes.Equal(in.MLKEM, want.MLKEM) || *in.PSK != *want.PSK || in.Chain != want.Chain {
		t.Error("the input changed")
	}
}

func TestWipedMaterialHoldsNothing(t *testing.T) {
	m := derive(t, input())
	m.Wipe()
	for _, sender := range []keys.PublicKey{{5}, {6}} {
		if m.Data(sender) != (keys.DataKey{}) || m.Tag(sender) != [32]byte{} {
			t.Errorf("sender %s: something is left", sender)
		}
	}
	if !m.Chain.IsZero() {
		t.Error("the chain is left")
	}
}

func TestMaterialOfAStrangerPanics(t *testing.T) {
	m := derive(t, input())
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	m.Data(keys.PublicKey{9})
}

func TestTranscriptHashSeparatesItsParts(t *testing.T) {
	base := keys.Transcript{HelloDialler: []byte("ab"), HelloListener: []byte("c"), Rekey: []byte("d"), ReplyBody: []byte("e")}
	others := []keys.Transcript{
		{HelloDialler: []byte("a"), HelloListener: []byte("bc"), Rekey: []byte("d"), ReplyBody: []byte("e")},
		{HelloDialler: []byte("c"), HelloListener: []byte("ab"), Rekey: []byte("d"), ReplyBody: []byte("e")},
		{HelloDialler: []byte("ab"), HelloListener: []byte("c"), Rekey: []byte("de")},
		{},
	}
	for _, other := range others {
		if other.Hash() == base.Hash() {
			t.Errorf("%q and %q have one hash", base, other)
		}
	}
}

func BenchmarkDerive(b *testing.B) {
	b.ReportAllocs()
	in := input()
	for b.Loop() {
		if _, err := keys.Derive(&in); err != nil {
			b.Fatal(err)
		}
	}
}
