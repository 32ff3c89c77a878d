package pipe

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"testing"
)

// record is the sample of a whole state.
func record(t testing.TB) []byte {
	t.Helper()
	p, err := EncodeState([]*KeyState{keyState()}, handedOver())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAStateIsTheFramesOfThePipe(t *testing.T) {
	p := record(t)
	if !bytes.Equal(p, append(frame(t, keyState()), frame(t, handedOver())...)) {
		t.Errorf("%x", p)
	}
	states, end, err := DecodeState(p)
	if err != nil || !reflect.DeepEqual(states, []*KeyState{keyState()}) || end != handedOver() {
		t.Errorf("%+v, %+v, %v", states, end, err)
	}
	if p, err := EncodeState(nil, HandedOver{}); err != nil {
		t.Error(err)
	} else if states, end, err := DecodeState(p); err != nil || len(states) != 0 || end != (HandedOver{}) {
		t.Errorf("%+v, %+v, %v", states, end, err)
	}
}

func TestDecodeStateRefusesWhatWasNotEncoded(t *testing.T) {
	key, end := frame(t, keyState()), frame(t, handedOver())
	twice, _ := hex.DecodeString("00000001" + "14") // HandOver
	tests := map[string][]byte{
		"nothing":               {},
		"no end":                key,
		"no key":                end,
		"one key too many":      slices.Concat(key, key, end),
		"bytes after the end":   slices.Concat(key, end, []byte{0}),
		"a message of another":  slices.Concat(twice, key, end),
		"keys without a bound":  slices.Concat(bytes.Repeat(key, MaxStates+1), end),
		"a length of 0":         {0, 0, 0, 0, byte(TypeKeyState)},
		"a length over 4 GiB":   {255, 255, 255, 255, byte(TypeKeyState)},
		"a key with no slots":   slices.Concat(keyFrame(t, 0), end),
		"a key of 65 slots":     slices.Concat(keyFrame(t, MaxStates+1), end),
		"a key that is too old": slices.Concat(key[:4], []byte{0x7f}, key[5:], end),
	}
	for name, p := range tests {
		if states, _, err := DecodeState(p); err == nil {
			t.Errorf("%s: %d keys", name, len(states))
		}
	}
	for n := range record(t) {
		if _, _, err := DecodeState(record(t)[:n]); err == nil {
			t.Errorf("cut after %d bytes: decoded", n)
		}
	}
}

// keyFrame is a KeyState with so many slots.
func keyFrame(t *testing.T, slots int) []byte {
	t.Helper()
	m := keyState()
	m.Slots = slices.Repeat(m.Slots[:1], slots)
	p, err := appendFrame(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryKeyStateThatParsesFitsItsFrame(t *testing.T) {
	states, _, err := DecodeState(slices.Concat(keyFrame(t, MaxStates), frame(t, handedOver())))
	if err != nil || len(states) != 1 || len(states[0].Slots) != MaxStates {
		t.Errorf("%d keys, %v", len(states), err)
	}
}

func TestEncodeStateRefusesATooLongKey(t *testing.T) {
	m := keyState()
	m.Slots = slices.Repeat(m.Slots, MaxStates)
	p, err := EncodeState([]*KeyState{m}, handedOver())
	if err == nil {
		_, _, err = DecodeState(p)
	}
	if err == nil {
		t.Error("encoded and decoded")
	}
}

// FuzzDecodeState takes anything for a state: what decodes encodes to the same bytes.
func FuzzDecodeState(f *testing.F) {
	f.Add(record(f))
	p, err := EncodeState(nil, HandedOver{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		states, end, err := DecodeState(p)
		if err != nil {
			return
		}
		again, err := EncodeState(states, end)
		if err != nil || !bytes.Equal(again, p) {
			t.Errorf("%x became %x, %v", p, again, err)
		}
	})
}

// FuzzKeyState takes anything for the body of a KeyState.
func FuzzKeyState(f *testing.F) {
	f.Add(keyState().appendBody(nil))
	most := keyState()
	most.Slots = slices.Repeat(most.Slots, MaxStates/2)
	f.Add(most.appendBody(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := parse(TypeKeyState, p)
		if err != nil {
			return
		}
		if again := m.appendBody(nil); !bytes.Equal(again, p) {
			t.Errorf("%x became %x", p, again)
		}
	})
}
