package netcfg_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tund/internal/netcfg"
	"tund/internal/tuntap"
)

const long = time.Minute // for what must happen on a busy machine

// startWatch runs Watch on a thread in the test's namespace, until the test ends.
func startWatch(t *testing.T, watch func(ctx context.Context, o netcfg.Observer) error, o netcfg.Observer) {
	t.Helper()
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1) // so that the goroutine ends though the test failed
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			ended <- err
			return
		}
		ended <- watch(ctx, o)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
		_ = unix.Close(ns)
	})
}

// eventually waits until ok, and says what was hoped for if it never is.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(long); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s\n%s", what, state(t))
		}
	}
}

const watched = "10.1.0.1/24 10.1.0.2/24 10.2.0.1/32 fd77::1/64 via 10.20.0.0/16 10.21.0.0/16 fd20::/32"

// reports is what an Observer has heard, with room for more than may come.
type reports struct {
	mended  chan string // of an interface on which something was put back
	changed chan string // of one that misses something else
	arrived chan struct{}
}

func newReports() reports {
	return reports{make(chan string, 1000), make(chan string, 1000), make(chan struct{}, 1000)}
}

func (r reports) observer() netcfg.Observer {
	return netcfg.Observer{
		Changed: func(iface string, mended bool) {
			if mended {
				r.mended <- iface
			} else {
				r.changed <- iface
			}
		},
		Arrived: func() { r.arrived <- struct{}{} },
	}
}

// await waits for a report about dev0.
func await(t *testing.T, from chan string) {
	t.Helper()
	select {
	case iface := <-from:
		if iface != "dev0" {
			t.Errorf("reported %q", iface)
		}
	case <-time.After(long):
		t.Fatalf("nothing was reported\n%s", state(t))
	}
}

func TestWatchPutsBackWhatOthersTake(t *testing.T) {
	tests := []struct{ name, take string }{
		{"a primary address", "addr del 10.1.0.1/24 dev dev0"},
		{"a secondary address", "addr del 10.1.0.2/24 dev dev0"},
		{"an IPv6 address", "addr del fd77::1/64 dev dev0"},
		{"all addresses", "addr flush dev dev0 scope global"},
		{"an IPv4 route", "route del 10.20.0.0/16 dev dev0"},
		{"an IPv6 route", "route del fd20::/32 dev dev0"},
		{"all IPv4 routes of the protocol", "-4 route flush proto 126"},
		{"all IPv6 routes of the protocol", "-6 route flush proto 126"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newRig(t, tuntap.TUN)
			apply(t, m, settings(t, watched))
			want := state(t)
			r := newReports()
			startWatch(t, m.Watch, r.observer())
			<-r.arrived // it has begun
			ip(t, tt.take)
			await(t, r.mended)
			eventually(t, "the state as before:\n"+want, func() bool { return state(t) == want }) // the kernel shows a carrier late
			wantMissing(t, m.Missing("dev0"))
		})
	}
}

// That a link is down is somebody's will: it is said, and what went with it comes back with it.
func TestALinkThatIsSetDownIsMissingUntilItIsUp(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, watched))
	want := state(t)
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	<-r.arrived
	ip(t, "link set dev0 down")
	await(t, r.changed)
	wantMissing(t, m.Missing("dev0"), "link: something else has set it down")
	if missing := m.Set(settings(t, watched)); !missing.Has("link") { // nor does a session set it up
		t.Errorf("missing: %v", missing)
	}
	ip(t, "link set dev0 up")
	eventually(t, "the state as before:\n"+want, func() bool { return state(t) == want && len(m.Missing("dev0")) == 0 })
}

func TestWatchPutsBackWhatCouldNotBeWhileIPv6WasOff(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, watched))
	want := ip(t, "-brief addr show dev dev0 scope global")
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	<-r.arrived
	sysctl(t, "ipv6/conf/dev0/disable_ipv6", "1")
	await(t, r.changed)
	if missing := m.Missing("dev0"); !missing.Has("address") || !errors.Is(missing[0].Err, netcfg.ErrNoIPv6) {
		t.Fatalf("while IPv6 was off there was missing: %v", missing)
	}
	sysctl(t, "ipv6/conf/dev0/disable_ipv6", "0")
	eventually(t, "the addresses as before: "+want, func() bool {
		return ip(t, "-brief addr show dev dev0 scope global") == want
	})
}

func TestRouteSourceFollowsTheAddresses(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, "10.1.0.1/24"))
	remote := netip.MustParseAddr("::ffff:10.1.0.9") // as a dual-stack socket has it
	if source, err := m.RouteSource(remote); err != nil || source != netip.MustParseAddr("10.1.0.1") {
		t.Errorf("source %s, %v", source, err)
	}
	apply(t, m, settings(t, "10.1.0.2/24"))
	if source, err := m.RouteSource(remote); err != nil || source != netip.MustParseAddr("10.1.0.2") {
		t.Errorf("after the address has changed: source %s, %v", source, err)
	}
	apply(t, m, settings(t, ""))
	if source, err := m.RouteSource(remote); err == nil {
		t.Errorf("without a route: source %s", source)
	}
}

func TestWatchSeesWhatWasTakenBeforeItBegan(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, watched))
	want := state(t)
	ip(t, "route del 10.20.0.0/16 dev dev0")
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	await(t, r.mended)
	if got := state(t); got != want {
		t.Errorf("state is\n%s\nbut was\n%s", got, want)
	}
}

func TestARouteThatAnotherHasTakenIsHadWhenThatOneGoes(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, watched))
	want := routes(t)
	ip(t, "link add veth0 type veth peer name veth1")
	ip(t, "link set veth0 up")
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	<-r.arrived
	ip(t, "route replace 10.20.0.0/16 dev veth0")
	await(t, r.changed)
	wantMissing(t, m.Missing("dev0"), "route 10.20.0.0/16: it exists already: dev veth0 proto boot")
	ip(t, "route del 10.21.0.0/16 dev dev0") // another one is put back all the same
	await(t, r.mended)
	wantMissing(t, m.Missing("dev0"), "route 10.20.0.0/16: it exists already: dev veth0 proto boot")
	ip(t, "link del veth0") // the kernel does not tell that its routes go
	await(t, r.changed)
	wantMissing(t, m.Missing("dev0"))
	wantLines(t, "routes", routes(t), want...)
}

// Each part that is missing comes with the event that brings what it lacks.
func TestWhatIsMissingAtFirstComesWithItsEvent(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	ip(t, "link add veth0 type veth peer name veth1")
	ip(t, "link set veth0 up")
	ip(t, "route add 10.20.0.0/16 dev veth0")
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	<-r.arrived
	if missing := m.Set(settings(t, "10.1.0.1/24 via 10.20.0.0/16 bridge br0")); len(missing) != 2 {
		t.Fatalf("missing: %v", missing)
	}
	ip(t, "link add br0 type bridge")
	eventually(t, "a port of the bridge", func() bool { return master(t) == "br0" })
	ip(t, "route del 10.20.0.0/16 dev veth0")
	eventually(t, "the route", func() bool { return len(m.Missing("dev0")) == 0 })
	checkRoutes(t, settings(t, "10.1.0.1/24 via 10.20.0.0/16"), false)
}

// What could not even be looked at, as where the kernel was short of memory, is a part like others.
func TestAnInterfaceThatWasNotFoundAtFirstIsTriedAgain(t *testing.T) {
	enterNamespace(t)
	m := newManager(t)
	startWatch(t, m.Watch, newReports().observer())
	if missing := m.Set(netcfg.Settings{Interface: "late", MTU: 1300}); !missing.Has("interface") {
		t.Fatalf("missing: %s", missing)
	}
	ip(t, "tuntap add late mode tun")
	eventually(t, "the interface is as wanted", func() bool { return len(m.Missing("late")) == 0 })
}

func TestWatchDoesNotReportOurOwnChanges(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	<-r.arrived
	for range 5 {
		for _, text := range []string{watched, "10.1.0.2/24", watched, "", watched, "10.9.0.1/24 via 10.20.0.0/16"} {
			apply(t, m, settings(t, text))
		}
	}
	m.Forget("dev0")
	ip(t, "addr flush dev dev0")
	other, err := tuntap.Open(tuntap.Options{Name: "dev1", Mode: tuntap.TUN})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	s := settings(t, "10.8.0.1/24")
	s.Interface = "dev1"
	apply(t, m, s)
	ip(t, "addr del 10.8.0.1/24 dev dev1")
	select { // what is reported first is of the other device
	case iface := <-r.mended:
		if iface != "dev1" {
			t.Errorf("mended %s", iface)
		}
	case iface := <-r.changed:
		t.Errorf("changed %s: %v", iface, m.Missing(iface))
	case <-time.After(long):
		t.Fatal("nothing was reported")
	}
}

// What comes one after another is no fight: each part is had at once.
func TestPartsThatComeOneAfterAnotherAreNoFight(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	ip(t, "link add veth0 type veth peer name veth1")
	ip(t, "link set veth0 up")
	s := settings(t, "10.1.0.1/24")
	for i := range 5 {
		s.Routes = append(s.Routes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(i), 0}), 24))
		ip(t, "route add "+s.Routes[i].String()+" dev veth0")
	}
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	<-r.arrived
	if missing := m.Set(s); len(missing) != 5 {
		t.Fatal(missing)
	}
	for i, route := range s.Routes {
		ip(t, "route del "+route.String()+" dev veth0")
		await(t, r.changed)
		missing := m.Missing("dev0")
		for _, part := range missing {
			if errors.Is(part.Err, netcfg.ErrTaken) {
				t.Errorf("%s", part)
			}
		}
		if len(missing) != 4-i {
			t.Errorf("after %d routes there is missing: %v", i+1, missing)
		}
	}
	select {
	case iface := <-r.mended:
		t.Errorf("something was put back on %s, though nothing was taken", iface)
	default:
	}
}

// What somebody takes away at once, each time, is shown as missing while it is.
func TestAFightIsShown(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, watched))
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	<-r.arrived
	for range 2 {
		ip(t, "route del 10.20.0.0/16 dev dev0")
		await(t, r.mended)
	}
	ip(t, "route del 10.20.0.0/16 dev dev0")
	await(t, r.changed)
	wantMissing(t, m.Missing("dev0"), "route 10.20.0.0/16: something else takes it away again and again")
	await(t, r.mended)
	wantMissing(t, m.Missing("dev0"))
}

func TestWatchPutsThePortBackWhenItsBridgeReturns(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	ip(t, "link add br0 type bridge")
	apply(t, m, settings(t, "bridge br0"))
	r := newReports()
	startWatch(t, m.Watch, r.observer())
	<-r.arrived
	ip(t, "link set dev0 nomaster")
	eventually(t, "a port again", func() bool { return master(t) == "br0" })
	ip(t, "link del br0")
	ip(t, "link add br0 type bridge")
	eventually(t, "a port of the new bridge", func() bool { return master(t) == "br0" })
}

// A callback that does not return lets the socket overflow; afterwards the watch must
// look at everything, as the event that told of the loss is lost itself.
func TestWatchRecoversFromLostEvents(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, settings(t, watched))
	called, release := make(chan struct{}, 1000), make(chan struct{}) // more calls than may come
	watch := func(ctx context.Context, o netcfg.Observer) error { return m.WatchWithBuffer(ctx, o, 1) }
	startWatch(t, watch, netcfg.Observer{Changed: func(string, bool) {
		called <- struct{}{}
		<-release
	}})
	ip(t, "route del 10.20.0.0/16 dev dev0")
	<-called
	for i := range 200 {
		ip(t, fmt.Sprintf("addr add 10.200.%d.1/24 dev dev0", i))
		ip(t, fmt.Sprintf("addr del 10.200.%d.1/24 dev dev0", i))
	}
	ip(t, "route del 10.21.0.0/16 dev dev0")
	close(release)
	want := "10.21.0.0/16 proto 126 scope link src 10.1.0.1"
	eventually(t, "route "+want, func() bool { return slices.Contains(routes(t), want) })
}

func TestWatchEndsWithItsContextAndLeavesNoGoroutine(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Watch(ctx, netcfg.Observer{}); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(long); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) { // what a goroutine does last is to end
			t.Fatalf("%d goroutines more", runtime.NumGoroutine()-before)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add(uint16(unix.RTM_DELADDR), nl.NewIfAddrmsg(unix.AF_INET).Serialize())
	f.Add(uint16(unix.RTM_NEWLINK), append(nl.NewIfInfomsg(unix.AF_UNSPEC).Serialize(), nl.NewRtAttr(unix.IFLA_IFNAME, []byte("br0\x00")).Serialize()...))
	f.Add(uint16(unix.RTM_DELROUTE), append(nl.NewRtMsg().Serialize(), nl.NewRtAttr(unix.RTA_DST, []byte{10, 0, 0, 0}).Serialize()...))
	f.Fuzz(func(_ *testing.T, kind uint16, data []byte) {
		netcfg.ParseEvent(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: data})
	})
}
