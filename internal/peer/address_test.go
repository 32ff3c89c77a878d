package peer

import (
	"testing"

	"tund/internal/keys"
)

func TestTheAddressOfATapFollowsFromItsTwoNodes(t *testing.T) {
	a, b, c := keys.PublicKey{1}, keys.PublicKey{2}, keys.PublicKey{3}
	if got, want := hardwareAddress(a, b).String(), hardwareAddress(a, b).String(); got != want {
		t.Errorf("%s, and then %s", got, want)
	}
	seen := map[string]bool{}
	for _, pair := range [][2]keys.PublicKey{{a, b}, {b, a}, {a, c}, {c, a}, {b, c}, {c, b}} {
		address := hardwareAddress(pair[0], pair[1])
		if len(address) != 6 || address[0] != 0xfe {
			t.Errorf("%s: a bridge may prefer it, or it is none", address)
		}
		seen[address.String()] = true
	}
	if len(seen) != 6 {
		t.Errorf("six ends have %d addresses: %v", len(seen), seen)
	}
	if got := hardwareAddress(a, b).String(); got != "fe:eb:91:88:5d:03" { // never changes: neighbours know it
		t.Errorf("%s", got)
	}
}
