package datapath

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"tund/internal/pipe"
)

func TestSourcesPermitWhatAPrefixContains(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		var prefixes []netip.Prefix
		for range 1 + r.IntN(40) {
			prefixes = append(prefixes, netip.PrefixFrom(near(r), 0))
			last := &prefixes[len(prefixes)-1]
			*last = netip.PrefixFrom(last.Addr(), r.IntN(last.Addr().BitLen()+1))
		}
		s := newSources(prefixes)
		for range 200 {
			addr := near(r)
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(addr)
			}
			if got := s.permit(packet(addr.String())); got != want {
				t.Fatalf("%v in %v: %v, want %v", addr, prefixes, got, want)
			}
		}
	}
}

// near returns an address that has many leading bits in common with others.
func near(r *rand.Rand) netip.Addr {
	b := make([]byte, []int{4, 16}[r.IntN(2)])
	b[0] = 0x20
	for range 3 {
		bit := r.IntN(8 * len(b))
		b[bit/8] ^= 1 << (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

func TestNoPrefixesPermitEverything(t *testing.T) {
	var s *sources
	if newSources(nil) != s || !s.permit(packet("::1")) {
		t.Error("something is refused")
	}
}

func TestPrefixesOfOneVersionPermitNothingOfTheOther(t *testing.T) {
	s := newSources([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")})
	if !s.permit(packet("255.255.255.255")) || s.permit(packet("::1")) {
		t.Error("wrong")
	}
}

func TestWellFormed(t *testing.T) {
	tests := []struct {
		mode    pipe.Mode
		payload []byte
		want    bool
	}{
		{pipe.ModeTUN, nil, false},
		{pipe.ModeTUN, packet(""), true},
		{pipe.ModeTUN, packet("")[:19], false},
		{pipe.ModeTUN, packet("::1"), true},
		{pipe.ModeTUN, packet("::1")[:39], false},
		{pipe.ModeTUN, make([]byte, 100), false},
		{pipe.ModeTAP, nil, false},
		{pipe.ModeTAP, make([]byte, 13), false},
		{pipe.ModeTAP, make([]byte, 14), true},
	}
	for _, tt := range tests {
		if got := wellFormed(tt.mode, tt.payload); got != tt.want {
			t.Errorf("%v %d bytes: %v", tt.mode, len(tt.payload), got)
		}
	}
}

func BenchmarkPermit(b *testing.B) {
	for _, tt := range []struct {
		name, source string
		networks     []string
	}{
		{"any", "10.77.0.2", nil},
		{"one network", "10.77.0.2", []string{"10.77.0.0/30"}},
		{"the default", "10.77.0.2", []string{"10.77.0.0/30", "fd77::/64", "::/128", "fe80::/10"}},
		{"the default, IPv6", "fd77::2", []string{"10.77.0.0/30", "fd77::/64", "::/128", "fe80::/10"}},
		{"300 networks", "10.0.77.2", networks24(300)},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var prefixes []netip.Prefix
			for _, n := range tt.networks {
				prefixes = append(prefixes, netip.MustParsePrefix(n))
			}
			s, p := newSources(prefixes), packet(tt.source)
			for b.Loop() {
				if !s.permit(p) {
					b.Fatal("refused")
				}
			}
		})
	}
}

func networks24(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24).String()
	}
	return all
}
