package config_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"tund/internal/config"
)

func TestInnerSourcesFollowFromWhatThePeerHas(t *testing.T) {
	tests := []struct {
		name, lines string
		byDefault   bool
		want        []string // beside those that IPv6 itself uses
	}{
		{"nothing", "", true, nil},
		{"addresses", `addresses = ["10.77.0.1/30", "fd77::1/64", "fe80::1/64"]`, true, []string{"10.77.0.0/30", "fd77::/64", "fe80::/64"}},
		{"routes", `routes = ["10.20.0.0/16", "::/0"]`, true, []string{"10.20.0.0/16", "::/0"}},
		{"both", "addresses = [\"10.77.0.1/32\"]\nroutes = [\"10.77.0.2/32\"]", true, []string{"10.77.0.1/32", "10.77.0.2/32"}},
		{
			"point to point", "addresses = [\"10.77.0.1/32\", \"fd77::1/64\"]\npeer_address = \"10.78.0.2\"",
			true,
			[]string{"10.77.0.1/32", "fd77::/64", "10.78.0.2/32"},
		},
		{"an empty list", "allowed_ips = []\nroutes = [\"10.20.0.0/16\"]", true, []string{"10.20.0.0/16"}},
		{"a list", "allowed_ips = [\"10.1.0.0/16\"]\nroutes = [\"10.20.0.0/16\"]", false, []string{"10.1.0.0/16"}},
		{"any", "allowed_ips = [\"any\"]\nroutes = [\"10.20.0.0/16\"]", false, nil},
		{"tap", "mode = \"tap\"\naddresses = [\"10.77.0.1/30\"]", false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := parsePeer(t, tt.lines+"\n").Peers[0]
			got, byDefault := p.InnerSources()
			if byDefault {
				for _, always := range []string{"::/128", "fe80::/10"} {
					got = slices.DeleteFunc(got, func(n netip.Prefix) bool { return n.String() == always })
				}
			}
			if byDefault != tt.byDefault || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, %v, want %v, %v", got, byDefault, tt.want, tt.byDefault)
			}
		})
	}
}

// A packet of IPv6's own on the link passes by default, where the peer has no address too.
func TestDefaultSourcesHoldThoseOfTheLink(t *testing.T) {
	got, _ := (&config.Peer{Mode: config.ModeTUN}).InnerSources()
	for _, addr := range []string{"fe80::1", "febf::1", "::"} {
		if !slices.ContainsFunc(got, func(n netip.Prefix) bool { return n.Contains(netip.MustParseAddr(addr)) }) {
			t.Errorf("%s is not in %v", addr, got)
		}
	}
	for _, addr := range []string{"::1", "fec0::1", "2001:db8::1", "0.0.0.0", "10.0.0.1"} {
		if slices.ContainsFunc(got, func(n netip.Prefix) bool { return n.Contains(netip.MustParseAddr(addr)) }) {
			t.Errorf("%s is in %v", addr, got)
		}
	}
}
