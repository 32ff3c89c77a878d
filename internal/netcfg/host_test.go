package netcfg_test

import (
	"fmt"
	"slices"
	"testing"
)

func TestHostAddressesAreThoseThatOthersCanReach(t *testing.T) {
	enterNamespace(t)
	for _, command := range []string{
		"link add lan type veth peer name lan-far", "link set lan up", "link set lan-far up",
		"addr add 10.1.0.5/24 dev lan", "addr add fd01::5/64 dev lan nodad",
		"link add wan type veth peer name wan-far", "link set wan up", "link set wan-far up",
		"addr add 10.2.0.5/24 dev wan", "addr add 198.51.100.5/24 dev wan", "addr add 2001:db8:1::5/64 dev wan nodad",
		"addr add 2001:db8:1::6/64 dev wan nodad preferred_lft 0",
		"link add off type veth peer name off-far", "addr add 10.3.0.5/24 dev off",
		"link add tun-beta type veth peer name tun-beta-far", "link set tun-beta up", "link set tun-beta-far up", "addr add 10.77.0.1/30 dev tun-beta",
	} {
		ip(t, command)
	}
	want := func(what string, want ...string) {
		t.Helper()
		found, err := newManager(t).HostAddresses([]string{"tun-beta"})
		var texts []string
		for _, addr := range found {
			texts = append(texts, fmt.Sprint(addr))
		}
		if err != nil || !slices.Equal(texts, want) {
			t.Errorf("%s: %v, %v; want %v", what, texts, err, want)
		}
	}
	want("without a default route", "198.51.100.5", "2001:db8:1::5", "10.1.0.5", "10.2.0.5", "fd01::5")
	ip(t, "route add default dev wan")
	want("with one", "198.51.100.5", "2001:db8:1::5", "10.2.0.5")
	ip(t, "-6 route add default dev lan")
	want("with one of each family", "198.51.100.5", "2001:db8:1::5", "10.1.0.5", "10.2.0.5", "fd01::5")
	ip(t, "route replace default dev tun-beta")
	want("with one through a tunnel", "10.1.0.5", "fd01::5")
	ip(t, "-6 route del default")
	want("with none but through a tunnel", "198.51.100.5", "2001:db8:1::5", "10.1.0.5", "10.2.0.5", "fd01::5")
}
