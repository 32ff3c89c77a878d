package netcfg_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tund/internal/netcfg"
	"tund/internal/tuntap"
)

const long = time.Minute // for what must happen on a busy machine

// startWatch runs Watch with lost as its callback, on a thread in the test's
// namespace, until the test ends.
func startWatch(t *testing.T, watch func(ctx context.Context, lost func(string)) error, lost func(string)) {
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
		ended <- watch(ctx, lost)
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

func TestWatchAndRestorePutBackWhatOthersTake(t *testing.T) {
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
			apply(t, m, netcfg.Settings{}, settings(t, watched))
			want := state(t)
			startWatch(t, m.Watch, func(iface string) {
				if err := m.Restore(iface); err != nil {
					t.Error(err)
				}
			})
			<-time.After(100 * time.Millisecond)
			ip(t, tt.take)
			if state(t) == want {
				t.Log("put back at once")
			}
			eventually(t, "the state as before:\n"+want, func() bool { return state(t) == want })
		})
	}
}

func TestWatchPutsBackWhatCouldNotBeWhileIPv6WasOff(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, netcfg.Settings{}, settings(t, watched))
	want := ip(t, "-brief addr show dev dev0 scope global")
	failed := make(chan error, 10) // more than may come
	startWatch(t, m.Watch, func(iface string) { failed <- m.Restore(iface) })
	sysctl(t, "ipv6/conf/dev0/disable_ipv6", "1")
	if err := <-failed; !errors.Is(err, netcfg.ErrNoIPv6) {
		t.Fatalf("restored while IPv6 was off: %v", err)
	}
	sysctl(t, "ipv6/conf/dev0/disable_ipv6", "0")
	eventually(t, "the addresses as before: "+want, func() bool {
		return ip(t, "-brief addr show dev dev0 scope global") == want
	})
}

func TestRouteSourceFollowsTheAddresses(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, netcfg.Settings{}, settings(t, "10.1.0.1/24"))
	remote := netip.MustParseAddr("::ffff:10.1.0.9") // as a dual-stack socket has it
	if source, err := m.RouteSource(remote); err != nil || source != netip.MustParseAddr("10.1.0.1") {
		t.Errorf("source %s, %v", source, err)
	}
	apply(t, m, settings(t, "10.1.0.1/24"), settings(t, "10.1.0.2/24"))
	if source, err := m.RouteSource(remote); err != nil || source != netip.MustParseAddr("10.1.0.2") {
		t.Errorf("after the address has changed: source %s, %v", source, err)
	}
	apply(t, m, settings(t, "10.1.0.2/24"), settings(t, ""))
	if source, err := m.RouteSource(remote); err == nil {
		t.Errorf("without a route: source %s", source)
	}
}

func TestWatchSeesWhatWasTakenBeforeItBegan(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, netcfg.Settings{}, settings(t, watched))
	ip(t, "route del 10.20.0.0/16 dev dev0")
	lost := make(chan string, 10) // more than may come
	startWatch(t, m.Watch, func(iface string) { lost <- iface })
	select {
	case iface := <-lost:
		if iface != "dev0" {
			t.Errorf("lost %q", iface)
		}
	case <-time.After(long):
		t.Error("nothing was reported")
	}
}

func TestWatchReportsARouteThatWasReplacedByAnother(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, netcfg.Settings{}, settings(t, watched))
	ip(t, "link add veth0 type veth peer name veth1")
	ip(t, "link set veth0 up")
	failed := make(chan error, 10) // more than may come
	startWatch(t, m.Watch, func(iface string) { failed <- m.Restore(iface) })
	<-time.After(100 * time.Millisecond)
	ip(t, "route del 10.21.0.0/16 dev dev0")
	ip(t, "route replace 10.20.0.0/16 dev veth0")
	var err error
	for err == nil { // the first route may be restored before the second is replaced
		select {
		case err = <-failed:
		case <-time.After(long):
			t.Fatal("nothing was reported")
		}
	}
	if !errors.Is(err, netcfg.ErrRouteExists) || !strings.Contains(err.Error(), "restore dev0: add route 10.20.0.0/16") {
		t.Errorf("restore: %v", err)
	}
	if r := routes(t); !slices.Contains(r, "10.21.0.0/16 proto 126 scope link src 10.1.0.1") {
		t.Errorf("the other route was not restored: %q", r)
	}
}

func TestWatchLeavesALinkThatIsDownAndMendsItWhenItIsUp(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, netcfg.Settings{}, settings(t, watched))
	want := state(t)
	lost := make(chan string, 10) // more than may come
	startWatch(t, m.Watch, func(iface string) { lost <- iface })
	<-time.After(100 * time.Millisecond)
	ip(t, "link set dev0 down")
	select {
	case <-lost:
		t.Error("a link that is down was reported")
	case <-time.After(300 * time.Millisecond):
	}
	if err := m.Restore("dev0"); !errors.Is(err, netcfg.ErrDown) {
		t.Errorf("restore: %v", err)
	}
	ip(t, "link set dev0 up")
	select {
	case iface := <-lost:
		if err := m.Restore(iface); err != nil {
			t.Error(err)
		}
	case <-time.After(long):
		t.Fatal("nothing was reported")
	}
	eventually(t, "the state as before:\n"+want, func() bool { return state(t) == want }) // the kernel shows a carrier late
}

func TestWatchDoesNotReportOurOwnChanges(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	lost := make(chan string, 100) // more than may come
	startWatch(t, m.Watch, func(iface string) { lost <- iface })
	steps := []string{watched, "10.1.0.2/24", watched, "", watched, "10.9.0.1/24 via 10.20.0.0/16"}
	old := netcfg.Settings{}
	for range 5 {
		for _, text := range steps {
			next := settings(t, text)
			apply(t, m, old, next)
			old = next
		}
	}
	m.Forget("dev0")
	ip(t, "addr flush dev dev0")
	select {
	case <-lost:
		t.Error("a loss was reported")
	case <-time.After(300 * time.Millisecond):
	}
}

func TestWatchIsPatientWithAnOpponent(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	apply(t, m, netcfg.Settings{}, settings(t, watched))
	lost := make(chan time.Time, 100) // more than may come
	startWatch(t, m.Watch, func(iface string) {
		lost <- time.Now()
		_ = m.Restore(iface)
	})
	var reports []time.Time
	for end := time.Now().Add(long); len(reports) < 3 && time.Now().Before(end); {
		_ = removeRoute("10.20.0.0/16")
		select {
		case at := <-lost:
			reports = append(reports, at)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if len(reports) < 3 {
		t.Fatalf("%d reports in %v", len(reports), long)
	}
	for i := range 2 { // a report that is noted late may look closer to the next
		if pause := reports[i+1].Sub(reports[i]); pause < netcfg.Patience/2 {
			t.Errorf("reports at %v: %v apart", reports, pause)
		}
	}
}

func TestWatchPutsThePortBackWhenItsBridgeReturns(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	ip(t, "link add br0 type bridge")
	apply(t, m, netcfg.Settings{}, settings(t, "bridge br0"))
	startWatch(t, m.Watch, func(iface string) {
		if err := m.Restore(iface); err != nil {
			t.Error(err)
		}
	})
	<-time.After(100 * time.Millisecond)
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
	apply(t, m, netcfg.Settings{}, settings(t, watched))
	called, release := make(chan struct{}, 10), make(chan struct{}) // more calls than may come
	watch := func(ctx context.Context, lost func(string)) error { return m.WatchWithBuffer(ctx, lost, 1) }
	startWatch(t, watch, func(iface string) {
		if err := m.Restore(iface); err != nil {
			t.Error(err)
		}
		called <- struct{}{}
		<-release
	})
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
	if err := m.Watch(ctx, func(string) {}); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(long); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) { // what a goroutine does last is to end
			t.Fatalf("%d goroutines more", runtime.NumGoroutine()-before)
		}
	}
}

func TestRestoreOfAnUnknownInterfaceDoesNothing(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	if err := m.Restore("dev0"); err != nil {
		t.Error(err)
	}
}

func removeRoute(to string) error {
	return exec.Command("ip", "route", "del", to, "dev", "dev0").Run()
}

func FuzzParseEvent(f *testing.F) {
	f.Add(uint16(unix.RTM_DELADDR), nl.NewIfAddrmsg(unix.AF_INET).Serialize())
	f.Add(uint16(unix.RTM_NEWLINK), append(nl.NewIfInfomsg(unix.AF_UNSPEC).Serialize(), nl.NewRtAttr(unix.IFLA_IFNAME, []byte("br0\x00")).Serialize()...))
	f.Add(uint16(unix.RTM_DELROUTE), append(nl.NewRtMsg().Serialize(), nl.NewRtAttr(unix.RTA_DST, []byte{10, 0, 0, 0}).Serialize()...))
	f.Fuzz(func(_ *testing.T, kind uint16, data []byte) {
		netcfg.ParseEvent(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: data})
	})
}
