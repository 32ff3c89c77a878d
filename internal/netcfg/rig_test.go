package netcfg_test

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/netcfg"
	"tund/internal/parts"
	"tund/internal/tuntap"
)

// enterNamespace moves the test into a network namespace of its own. The goroutine
// stays locked to its thread, so that the thread, and the namespace, end with it.
func enterNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	ip(t, "link set lo up")
}

// ip runs the ip program in the test's namespace. A failing test may go on.
func ip(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Errorf("ip %s: %v: %s", args, err, out)
	}
	return string(out)
}

// sysctl writes a value below /proc/sys/net, which shows the thread's namespace.
func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func newManager(t *testing.T) *netcfg.Manager {
	t.Helper()
	m, err := netcfg.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func newDevice(t *testing.T, mode tuntap.Mode) *tuntap.Device {
	t.Helper()
	d, err := tuntap.Open(tuntap.Options{Name: "dev0", Mode: mode, Queue: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func newRig(t *testing.T, mode tuntap.Mode) *netcfg.Manager {
	t.Helper()
	enterNamespace(t)
	newDevice(t, mode)
	return newManager(t)
}

// settings reads "ADDRESS... [peer IP] [via PREFIX...] [bridge NAME] [mtu N]".
func settings(t *testing.T, text string) netcfg.Settings {
	t.Helper()
	s := netcfg.Settings{Interface: "dev0"}
	key := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case slices.Contains([]string{"peer", "via", "bridge", "mtu"}, word):
			key = word
		case key == "peer":
			s.PeerAddress = netip.MustParseAddr(word)
		case key == "via":
			s.Routes = append(s.Routes, netip.MustParsePrefix(word))
		case key == "bridge":
			s.Bridge = word
		case key == "mtu":
			s.MTU = number(t, word)
		default:
			s.Addresses = append(s.Addresses, netip.MustParsePrefix(word))
		}
	}
	return s
}

func number(t *testing.T, word string) int {
	t.Helper()
	n := 0
	for _, c := range word {
		if c < '0' || c > '9' {
			t.Fatalf("%q is no number", word)
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// apply sets what can be had as a whole.
func apply(t *testing.T, m *netcfg.Manager, next netcfg.Settings) {
	t.Helper()
	if missing := m.Set(next); len(missing) > 0 {
		t.Fatal(missing)
	}
}

// wantMissing compares what is missing, and the reason of each, with texts.
func wantMissing(t *testing.T, got parts.List, want ...string) {
	t.Helper()
	if !slices.Equal(got.Strings(), append([]string{}, want...)) {
		t.Errorf("missing is\n\t%s\nwant\n\t%s", strings.Join(got.Strings(), "\n\t"), strings.Join(want, "\n\t"))
	}
}

// addresses lists those of dev0, link-local ones left out, in the kernel's order.
func addresses(t *testing.T) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(ip(t, "-o addr show dev dev0")) {
		f := strings.Fields(line)
		if a := strings.TrimSpace(line); strings.Contains(a, "scope link") {
			continue
		}
		a := f[3]
		if i := slices.Index(f, "peer"); i >= 0 {
			a += " peer " + f[i+1]
		}
		all = append(all, a)
	}
	return all
}

// routes lists what leads through dev0, link-local ones left out, sorted.
func routes(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(ip(t, family+" route show dev dev0")) {
			if !strings.HasPrefix(line, "fe80::/64") {
				all = append(all, strings.TrimSpace(strings.ReplaceAll(line, " linkdown", "")))
			}
		}
	}
	slices.Sort(all)
	return all
}

func link(t *testing.T) string {
	t.Helper()
	first, _, _ := strings.Cut(ip(t, "-o link show dev dev0"), "\\")
	return strings.Replace(first, "qdisc noop", "qdisc pfifo_fast", 1) // a link once up keeps its queue
}

// state is all that Apply may change, as one text.
func state(t *testing.T) string {
	t.Helper()
	a := addresses(t)
	slices.Sort(a)
	return strings.Join(slices.Concat([]string{link(t)}, a, routes(t)), "\n")
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s are\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
