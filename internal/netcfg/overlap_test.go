package netcfg_test

import (
	"slices"
	"strings"
	"testing"

	"tund/internal/netcfg"
	"tund/internal/tuntap"
)

func TestOverlapsNamesAddressesInOtherNetworks(t *testing.T) {
	enterNamespace(t)
	m := newManager(t)
	ip(t, "link add eth0 type veth peer name eth1")
	ip(t, "addr add 192.168.1.5/24 dev eth0")
	ip(t, "addr add fd99::5/64 dev eth0 nodad")
	newDevice(t, tuntap.TUN)
	ip(t, "addr add 192.168.9.5/24 dev dev0") // what is there of an own interface does not count
	for text, want := range map[string]string{
		"10.1.0.1/24 fd77::1/64 fe80::1/64":      "",
		"192.168.1.5/32":                         "", // borrowed
		"192.168.1.77/32":                        "192.168.1.77 of dev0 lies in 192.168.1.0/24, the network of eth0",
		"192.168.1.5/32 peer 192.168.1.9":        "192.168.1.9 of dev0 lies in 192.168.1.0/24, the network of eth0",
		"192.168.0.1/16":                         "192.168.1.5 of eth0 lies in 192.168.0.0/16, the network of dev0",
		"fd99::1/128":                            "fd99::1 of dev0 lies in fd99::/64, the network of eth0",
		"10.8.0.9/32 10.1.0.1/24 192.168.1.5/32": "10.8.0.9 of dev0 lies in 10.8.0.0/24, the network of dev1",
	} {
		other := settings(t, "10.8.0.1/24")
		other.Interface = "dev1"
		found, err := m.Overlaps([]netcfg.Settings{settings(t, text), other})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(found["dev0"], "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", text, got, want)
		}
		if got := strings.Join(found["dev1"], "\n"); (got != "") != strings.Contains(want, "dev1") {
			t.Errorf("%s: of the other: %s", text, got)
		}
	}
}

// Each of several devices may have the same address; one that gives it up takes nothing from the others.
func TestTheSameAddressOnSeveralDevices(t *testing.T) {
	const text = "10.0.0.1/32 fd42::1/128 fe80::1/64 via "
	m := newRig(t, tuntap.TUN)
	other, err := tuntap.Open(tuntap.Options{Name: "dev1", Mode: tuntap.TUN})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	first, second := settings(t, text+"10.20.0.0/16"), settings(t, text+"10.21.0.0/16")
	second.Interface = "dev1"
	apply(t, m, first)
	want := slices.Concat(addresses(t), routes(t))
	apply(t, m, second)
	apply(t, m, first)
	second.Addresses, second.Routes = nil, nil
	apply(t, m, second)
	apply(t, m, first)
	if got := slices.Concat(addresses(t), routes(t)); !slices.Equal(got, want) {
		t.Errorf("there is\n%s\nwas\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, to := range []string{"10.0.0.1", "fd42::1"} {
		if way := ip(t, "route get "+to); !strings.Contains(way, "local") {
			t.Errorf("%s is not local any more: %s", to, way)
		}
	}
}
