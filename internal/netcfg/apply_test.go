package netcfg_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tund/internal/netcfg"
	"tund/internal/tuntap"
)

func TestApplySetsAllOfTheSettings(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, "10.1.0.1/24 fd77::1/64 10.2.0.1/32 via 10.20.0.0/16 fd20::/32 0.0.0.0/0 mtu 1380"))
	wantLines(t, "addresses", addresses(t), "10.1.0.1/24", "10.2.0.1/32", "fd77::1/64")
	wantLines(
		t, "routes", routes(t),
		"10.1.0.0/24 proto kernel scope link src 10.1.0.1",
		"10.20.0.0/16 proto 126 scope link src 10.1.0.1",
		"default proto 126 scope link src 10.1.0.1",
		"fd20::/32 proto 126 src fd77::1 metric 1024 pref medium",
		"fd77::/64 proto kernel metric 256 pref medium",
	)
	if l := link(t); !strings.Contains(l, ",UP") || !strings.Contains(l, "mtu 1380") {
		t.Errorf("link is %s", l)
	}
	if show := ip(t, "-6 addr show dev dev0 to fd77::/64"); !strings.Contains(show, "nodad") || strings.Contains(show, "tentative") {
		t.Errorf("the IPv6 address waits for duplicates:\n%s", show)
	}
}

func TestApplyMakesPointToPointAddresses(t *testing.T) {
	tests := []struct {
		settings string
		want     []string
	}{
		{"10.1.0.1/32 peer 10.1.0.2", []string{"10.1.0.1 peer 10.1.0.2/32"}},
		{"10.1.0.1/30 peer 10.1.0.2", []string{"10.1.0.1 peer 10.1.0.2/30"}},
		{"10.1.0.1/30 peer 10.9.0.2", []string{"10.1.0.1 peer 10.9.0.2/32"}},
		{"10.1.0.1/30 10.3.0.1/24 peer 10.1.0.2", []string{"10.1.0.1 peer 10.1.0.2/30", "10.3.0.1/24"}},
		{"10.1.0.1/24 fd77::1/128 peer fd77::2", []string{"10.1.0.1/24", "fd77::1 peer fd77::2/128"}},
	}
	for _, tt := range tests {
		t.Run(tt.settings, func(t *testing.T) {
			m := newRig(t, tuntap.TUN)
			s := settings(t, tt.settings)
			apply(t, m, s)
			wantLines(t, "addresses", addresses(t), tt.want...)
			apply(t, m, s)
			wantLines(t, "addresses after the same again", addresses(t), tt.want...)
			apply(t, m, settings(t, ""))
			wantLines(t, "addresses after all were taken", addresses(t))
		})
	}
}

func TestApplyChangesOnlyTheDifference(t *testing.T) {
	tests := []struct{ name, old, new, foreign string }{
		{"first", "", "10.1.0.1/24 fd77::1/64 via 10.20.0.0/16 mtu 1400", ""},
		{"nothing", "10.1.0.1/24 fd77::1/64 via 10.20.0.0/16", "10.1.0.1/24 fd77::1/64 via 10.20.0.0/16", ""},
		{"an address more", "10.1.0.1/24", "10.1.0.1/24 10.1.0.2/24 fd77::1/64", ""},
		{"an address less", "10.1.0.1/24 10.1.0.2/24 fd77::1/64 fd77::2/64", "10.1.0.2/24 fd77::2/64", ""},
		{"other networks", "10.1.0.1/24 fd77::1/64", "10.1.0.1/30 fd77::1/80", ""},
		{"a peer", "10.1.0.1/30 fd77::1/64", "10.1.0.1/30 fd77::1/64 peer 10.1.0.2", ""},
		{"an IPv6 peer", "10.1.0.1/30 fd77::1/64", "10.1.0.1/30 fd77::1/64 peer fd77::2", ""},
		{"another peer", "10.1.0.1/32 peer 10.1.0.2", "10.1.0.1/32 peer 10.1.0.3", ""},
		{"no peer", "10.1.0.1/30 10.1.0.5/30 peer 10.1.0.2", "10.1.0.1/30 10.1.0.5/30", ""},
		{"the source of the routes", "10.1.0.1/24 via 10.20.0.0/16", "10.9.0.1/24 via 10.20.0.0/16", ""},
		{"the order of sources", "10.1.0.1/24 10.9.0.1/24 via 10.20.0.0/16", "10.9.0.1/24 10.1.0.1/24 via 10.20.0.0/16", ""},
		{"no source", "10.1.0.1/24 fd77::1/64 via 10.20.0.0/16 fd20::/32", "via 10.20.0.0/16 fd20::/32", ""},
		{"routes", "10.1.0.1/24 via 10.20.0.0/16 10.21.0.0/16", "10.1.0.1/24 via 10.21.0.0/16 10.22.0.0/16 fd20::/32", ""},
		{"a route like that of an address", "10.1.0.1/24 via 10.1.0.0/24 fd77::/64", "10.9.0.1/24 via 10.1.0.0/24 fd77::/64", ""},
		{"the MTU", "10.1.0.1/24 fd77::1/64 mtu 1400", "10.1.0.1/24 fd77::1/64 mtu 1300", ""},
		{"the MTU over the limit of IPv6", "10.1.0.1/24 mtu 1000", "10.1.0.1/24 fd77::1/64 mtu 1300", ""},
		{"all", "10.1.0.1/24 10.1.0.2/24 fd77::1/64 via 10.20.0.0/16 fd20::/32", "", "10.8.0.1/24"},
		{"beside an administrator's addresses", "10.1.0.1/24", "10.2.0.1/24", "10.1.0.9/24"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 1
			for tries := 0; n != 0 && tries < 5; tries++ {
				n = changeAndRepeat(t, settings(t, tt.old), settings(t, tt.new), tt.foreign)
			}
			if n != 0 {
				t.Errorf("the same settings again made %d changes, and some each time", n)
			}
		})
	}
}

// changeAndRepeat changes the settings of a new device, and returns how many changes the same
// again has made. Some may be the kernel's, which finishes what was before later still than is
// waited for: those of Apply are made each time.
func changeAndRepeat(t *testing.T, old, next netcfg.Settings, foreign string) int {
	t.Helper()
	m := newRig(t, tuntap.TUN)
	apply(t, m, old)
	if foreign != "" {
		ip(t, "addr add "+foreign+" dev dev0")
		ip(t, "route add 10.77.0.0/16 dev dev0 proto static")
	}
	apply(t, m, next)
	checkState(t, next, foreign)
	since := countEvents(t)
	apply(t, m, next)
	apply(t, m, next)
	n := since()
	checkState(t, next, foreign)
	return n
}

// checkState compares the device with what a new device would get.
func checkState(t *testing.T, s netcfg.Settings, foreign string) {
	t.Helper()
	var want []string
	for i, p := range s.Addresses {
		text := p.String()
		if first := i == 0 || s.PeerAddress.Is6(); s.PeerAddress.IsValid() && first && p.Addr().Is4() == s.PeerAddress.Is4() {
			bits := p.Bits()
			text = p.Addr().String() + " peer " + netip.PrefixFrom(s.PeerAddress, bits).String()
		}
		want = append(want, text)
	}
	if foreign != "" {
		want = append(want, foreign)
	}
	got := addresses(t)
	slices.Sort(got)
	slices.Sort(want)
	wantLines(t, "addresses", got, want...)
	checkRoutes(t, s, foreign != "")
	if s.MTU != 0 && !strings.Contains(link(t), "mtu "+itoa(s.MTU)) {
		t.Errorf("link is %s", link(t))
	}
}

func checkRoutes(t *testing.T, s netcfg.Settings, foreign bool) {
	t.Helper()
	all := routes(t)
	for _, p := range s.Routes {
		i := slices.IndexFunc(all, func(r string) bool { return strings.HasPrefix(r, p.String()+" ") })
		if i < 0 {
			t.Errorf("no route %s in %q", p, all)
			continue
		}
		source := slices.IndexFunc(s.Addresses, func(a netip.Prefix) bool { return a.Addr().Is4() == p.Addr().Is4() })
		if strings.Contains(all[i], "proto 126") && source >= 0 && !strings.Contains(all[i], "src "+s.Addresses[source].Addr().String()) {
			t.Errorf("route %q has not the source %s", all[i], s.Addresses[source].Addr())
		}
	}
	for _, r := range all {
		to, _, _ := strings.Cut(r, " ")
		if strings.Contains(r, "proto 126") && !slices.ContainsFunc(s.Routes, func(p netip.Prefix) bool { return p.String() == to }) {
			t.Errorf("route %q was left", r)
		}
	}
	if kept := slices.ContainsFunc(all, func(r string) bool { return strings.HasPrefix(r, "10.77.0.0/16") }); kept != foreign {
		t.Errorf("foreign route there: %v, want %v, in %q", kept, foreign, all)
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// countEvents returns a function that tells how many changes the kernel announced
// in the namespace since.
func countEvents(t *testing.T) func() int {
	t.Helper()
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	silence := func(d time.Duration) int {
		wait := unix.NsecToTimeval(int64(d))
		if err := s.SetReceiveTimeout(&wait); err != nil {
			t.Fatal(err)
		}
		return drain(s)
	}
	silence(100 * time.Millisecond) // the kernel finishes some earlier things late
	return func() int { return silence(time.Millisecond) }
}

// drain counts what comes until nothing does for as long as the socket waits.
func drain(s *nl.NetlinkSocket) (n int) {
	for {
		messages, _, err := s.Receive()
		if err != nil {
			return n
		}
		n += len(messages)
	}
}

func TestWhatCannotBeHadLeavesTheRest(t *testing.T) {
	const before = "10.1.0.1/24 10.1.0.2/24 fd77::1/64 via 10.20.0.0/16 fd20::/32 mtu 1400"
	tests := []struct{ name, old, new, missing, rest string }{
		{
			"foreign IPv4 route", before, "10.9.0.1/24 via 10.20.0.0/16 10.66.0.0/16 mtu 1300",
			"route 10.66.0.0/16: it exists already: via 192.0.2.2 dev veth0 proto static", "10.9.0.1/24 via 10.20.0.0/16 mtu 1300",
		},
		{
			"foreign IPv6 route", before, "10.9.0.1/24 fd77::1/80 via fd66::/32",
			"route fd66::/32: it exists already: dev veth0 proto boot metric 1024", "10.9.0.1/24 fd77::1/80",
		},
		{
			"foreign default route", "", "10.9.0.1/24 via 0.0.0.0/0 10.20.0.0/16",
			"route 0.0.0.0/0: it exists already: via 192.0.2.2 dev veth0 proto boot", "10.9.0.1/24 via 10.20.0.0/16",
		},
		{
			"first time", "", "10.9.0.1/24 via 10.66.0.0/16 mtu 1300",
			"route 10.66.0.0/16: it exists already: via 192.0.2.2 dev veth0 proto static", "10.9.0.1/24 mtu 1300",
		},
		{"missing bridge", before, "10.9.0.1/24 bridge nobr0", "bridge nobr0: it does not exist", "10.9.0.1/24"},
		{"bridge that is none", before, "10.9.0.1/24 bridge veth0", "bridge veth0: it is not a bridge but of kind veth", "10.9.0.1/24"},
		{
			"MTU too large", before, "10.9.0.1/24 mtu 100000",
			"mtu 100000: outside of what the device takes: invalid argument", "10.9.0.1/24 mtu 1400",
		},
		{
			"MTU too small for IPv6", before, "10.9.0.1/24 fd77::1/64 mtu 1279",
			"mtu 1279: IPv6 is disabled on an interface with an MTU below 1280, and it is 1279", "10.9.0.1/24 fd77::1/64 mtu 1400",
		},
		{"peer of another family", before, "10.1.0.1/24 peer fd77::2", "peer address fd77::2: no address of its family", "10.1.0.1/24"},
		{
			"addresses that cannot be", before, "10.9.0.1/24 ff02::1/64 fd78::1/64 via fd20::/32",
			"address ff02::1/64: cannot assign requested address", "10.9.0.1/24 fd78::1/64 via fd20::/32",
		},
		{
			"the source of a route", "", "ff02::1/64 fd78::1/64 via fd20::/32",
			"address ff02::1/64: cannot assign requested address", "fd78::1/64 via fd20::/32",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newRig(t, tuntap.TUN)
			ip(t, "link add veth0 type veth peer name veth1")
			ip(t, "addr add 192.0.2.1/24 dev veth0")
			ip(t, "link set veth0 up")
			ip(t, "route add 10.66.0.0/16 via 192.0.2.2 proto static")
			ip(t, "route add default via 192.0.2.2")
			ip(t, "route add fd66::/32 dev veth0")
			if tt.old != "" {
				apply(t, m, settings(t, tt.old))
			}
			for range 2 { // the second time nothing is different
				wantMissing(t, m.Set(settings(t, tt.new)), tt.missing)
				wantMissing(t, m.Missing("dev0"), tt.missing)
				checkState(t, settings(t, tt.rest), "")
			}
			apply(t, m, settings(t, tt.rest))
			checkState(t, settings(t, tt.rest), "")
		})
	}
}

func TestSetNamesAMissingInterface(t *testing.T) {
	enterNamespace(t)
	m := newManager(t)
	wantMissing(t, m.Set(settings(t, "10.1.0.1/24")), "interface dev0: it does not exist")
	newDevice(t, tuntap.TUN)
	apply(t, m, settings(t, "10.1.0.1/24"))
}

func TestDisabledIPv6StopsOnlyIPv6(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	sysctl(t, "ipv6/conf/dev0/disable_ipv6", "1")
	const why = ": IPv6 is disabled on the interface (sysctl net.ipv6.conf.dev0.disable_ipv6)"
	wantMissing(t, m.Set(settings(t, "10.1.0.1/24 fd77::1/64 via 10.20.0.0/16 fd20::/32")), "address fd77::1/64"+why, "route fd20::/32"+why)
	checkState(t, settings(t, "10.1.0.1/24 via 10.20.0.0/16"), "")
	sysctl(t, "ipv6/conf/dev0/disable_ipv6", "0")
	apply(t, m, settings(t, "10.1.0.1/24 fd77::1/64 via 10.20.0.0/16 fd20::/32"))
	checkState(t, settings(t, "10.1.0.1/24 fd77::1/64 via 10.20.0.0/16 fd20::/32"), "")
}

// What an earlier process has given a device goes when it is not wanted any more.
func TestWhatWasInheritedIsOurs(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	ip(t, "addr add 10.1.0.1/24 dev dev0")
	ip(t, "addr add 10.2.0.1/24 dev dev0")
	m.Inherit(settings(t, "10.1.0.1/24 10.3.0.1/24"))
	apply(t, m, settings(t, "10.4.0.1/24"))
	checkAddresses(t, "10.2.0.1/24", "10.4.0.1/24")
}

// A default route reads differently from others in package netlink.
func TestADefaultRouteIsKnownAgain(t *testing.T) {
	for _, to := range []string{"0.0.0.0/0", "::/0"} {
		t.Run(to, func(t *testing.T) {
			m := newRig(t, tuntap.TUN)
			s := settings(t, "10.1.0.1/24 fd77::1/64 via "+to)
			apply(t, m, s)
			since := countEvents(t)
			apply(t, m, s)
			if n := since(); n != 0 {
				t.Errorf("the same settings again made %d changes", n)
			}
			s.MTU = 1300
			apply(t, m, s)
			apply(t, m, settings(t, "10.1.0.1/24 fd77::1/64"))
			if left := strings.Join(routes(t), "\n"); strings.Contains(left, "default") {
				t.Errorf("left:\n%s", left)
			}
		})
	}
}

func TestApplyKeepsSecondaryAddressesWhenThePrimaryGoes(t *testing.T) {
	for _, promote := range []string{"0", "1"} {
		t.Run("promote_secondaries "+promote, func(t *testing.T) {
			m := newRig(t, tuntap.TUN)
			sysctl(t, "ipv4/conf/dev0/promote_secondaries", promote)
			sysctl(t, "ipv4/conf/all/promote_secondaries", promote)
			old := settings(t, "10.1.0.1/24 10.1.0.2/24 10.1.0.3/24 10.2.0.1/24 fd77::1/64 fd77::2/64 via 10.20.0.0/16")
			apply(t, m, old)
			ip(t, "addr add 10.1.0.9/24 dev dev0 label dev0:adm")
			next := settings(t, "10.1.0.3/24 10.1.0.4/24 fd77::2/64 via 10.20.0.0/16")
			apply(t, m, next)
			checkAddresses(t, "10.1.0.3/24", "10.1.0.4/24", "10.1.0.9/24", "fd77::2/64")
			wantLines(
				t, "routes", routes(t),
				"10.1.0.0/24 proto kernel scope link src 10.1.0.3",
				"10.20.0.0/16 proto 126 scope link src 10.1.0.3",
				"fd77::/64 proto kernel metric 256 pref medium",
			)
			if show := ip(t, "addr show dev dev0"); !strings.Contains(show, "dev0:adm") {
				t.Errorf("the administrator's label is lost:\n%s", show)
			}
		})
	}
}

func checkAddresses(t *testing.T, want ...string) {
	t.Helper()
	got := addresses(t)
	slices.Sort(got)
	wantLines(t, "addresses", got, want...)
}

func TestGivingBackAnAdministratorsDeviceLeavesWhatIsTheirs(t *testing.T) {
	enterNamespace(t)
	ip(t, "tuntap add dev0 mode tun")
	ip(t, "addr add 10.5.0.1/24 dev dev0")
	ip(t, "addr add 10.1.0.9/24 dev dev0")
	ip(t, "link set dev0 up")
	ip(t, "route add 10.55.0.0/16 dev dev0")
	d := newDevice(t, tuntap.TUN)
	m := newManager(t)
	want := state(t)
	s := settings(t, "10.1.0.1/24 10.9.0.1/24 fd77::1/64 via 10.20.0.0/16 fd20::/32")
	apply(t, m, s)
	apply(t, m, settings(t, ""))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	strip := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, "NO-CARRIER,", ""), "LOWER_UP,", "")
	}
	after, _, _ := strings.Cut(strip(state(t)), "mtu")
	before, _, _ := strings.Cut(strip(want), "mtu")
	if a := addresses(t); !slices.Equal(a, []string{"10.5.0.1/24", "10.1.0.9/24"}) || len(after) == 0 || len(before) == 0 {
		t.Errorf("addresses are %q", a)
	}
	for _, r := range routes(t) {
		if strings.Contains(r, "126") {
			t.Errorf("route %q was left", r)
		}
	}
}

func TestApplyRemovesRoutesThatAnEarlierRunLeft(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	ip(t, "link set dev0 up")
	ip(t, "route add 10.33.0.0/16 dev dev0 proto 126")
	ip(t, "route add fd33::/32 dev dev0 proto 126")
	ip(t, "route add 10.34.0.0/16 dev dev0 proto bird")
	apply(t, m, settings(t, "via 10.20.0.0/16"))
	wantLines(t, "routes", routes(t), "10.20.0.0/16 proto 126 scope link", "10.34.0.0/16 proto bird scope link")
}

func TestApplyWorksWithoutCarrier(t *testing.T) {
	for _, mode := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
		t.Run(mode.String(), func(t *testing.T) {
			enterNamespace(t)
			d := newDevice(t, mode)
			if err := d.SetCarrier(false); err != nil {
				t.Fatal(err)
			}
			m := newManager(t)
			s := settings(t, "10.1.0.1/24 fd77::1/64 via 10.20.0.0/16 fd20::/32")
			apply(t, m, s)
			checkState(t, s, "")
			for _, on := range []bool{true, false, true} {
				if err := d.SetCarrier(on); err != nil {
					t.Fatal(err)
				}
				checkState(t, s, "")
			}
			if show := ip(t, "addr show dev dev0"); strings.Contains(show, "fd77::1/64 scope global tentative") {
				t.Errorf("the address cannot be used:\n%s", show)
			}
		})
	}
}

func TestRouteMTUIsThatOfTheRouteOrTheLink(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, "10.1.0.1/24 fd77::1/64 mtu 1400"))
	ip(t, "route add 10.50.0.0/16 dev dev0 mtu 1333")
	ip(t, "route add fd50::/16 dev dev0 mtu 1334")
	for remote, want := range map[string]int{
		"10.1.0.9": 1400, "::ffff:10.1.0.9": 1400, "fd77::9": 1400, "10.50.0.1": 1333, "fd50::1": 1334, "127.0.0.1": 65536,
	} {
		if got, err := m.RouteMTU(netip.MustParseAddr(remote)); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", remote, got, err, want)
		}
	}
	if _, err := m.RouteMTU(netip.MustParseAddr("203.0.113.1")); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("without a route: %v", err)
	}
	if _, err := m.RouteMTU(netip.Addr{}); err == nil {
		t.Error("no address was taken")
	}
}

func TestNewIPv6AddressTakesPacketsAtOnce(t *testing.T) {
	for _, mode := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
		t.Run(mode.String(), func(t *testing.T) {
			m := newRig(t, mode)
			judged := 0
			for round := range 300 { // one in a hundred was late
				now := settings(t, fmt.Sprintf("fd77::%x/64", round+1))
				begun := time.Now()
				apply(t, m, now)
				took := time.Since(begun)
				local, err := netlink.RouteGet(now.Addresses[0].Addr().AsSlice())
				late := took >= netcfg.LocalLimit // the kernel's worker had no time to run
				if err != nil || local[0].Type != unix.RTN_LOCAL && !late {
					t.Fatalf("round %d: %v, %v, %v after Set began", round, local, err, took)
				}
				if !late {
					judged++
				}
			}
			if judged == 0 {
				t.Error("the kernel was late in every round: nothing was tested")
			}
		})
	}
}
