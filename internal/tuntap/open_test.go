package tuntap_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/tuntap"
)

func open(t *testing.T, o tuntap.Options) *tuntap.Device {
	t.Helper()
	d, err := tuntap.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func interfaceExists(name string) bool {
	return exec.Command("ip", "link", "show", name).Run() == nil
}

func TestOpenMakesADeviceThatEndsWithItsDescriptor(t *testing.T) {
	for _, mode := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
		t.Run(mode.String(), func(t *testing.T) {
			enterNamespace(t)
			d := open(t, tuntap.Options{Name: "made0", Mode: mode, Queue: 777})
			show := ip(t, "-d link show made0")
			for _, want := range []string{"qlen 777", mode.String() + " type", "vnet_hdr on", "persist off", "pi off"} {
				if !strings.Contains(strings.ReplaceAll(show, "type "+mode.String(), mode.String()+" type"), want) {
					t.Errorf("ip shows no %q:\n%s", want, show)
				}
			}
			if !d.Created() || d.Name() != "made0" || d.Mode() != mode || d.Index() == 0 || d.Offloads() != tuntap.OffloadNone {
				t.Errorf("device is %+v", d)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if interfaceExists("made0") {
				t.Error("the interface outlives its descriptor")
			}
		})
	}
}

func TestOpenKeepsRouterAdvertisementsFromANewDeviceOnly(t *testing.T) {
	enterNamespace(t)
	ip(t, "tuntap add adm0 mode tap")
	for name, want := range map[string]string{"made0": "0", "adm0": "1"} {
		open(t, tuntap.Options{Name: name, Mode: tuntap.TAP})
		got, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/accept_ra")
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want+"\n" {
			t.Errorf("%s: accept_ra is %q, want %s", name, got, want)
		}
	}
}

func TestOpenGivesANewTapItsAddressAndLeavesAnAdministrators(t *testing.T) {
	enterNamespace(t)
	ip(t, "tuntap add adm0 mode tap")
	ip(t, "link set adm0 address 02:00:00:00:00:99")
	address := net.HardwareAddr{0xfe, 1, 2, 3, 4, 5}
	for name, want := range map[string]string{"made0": "fe:01:02:03:04:05", "adm0": "02:00:00:00:00:99"} {
		open(t, tuntap.Options{Name: name, Mode: tuntap.TAP, Address: address})
		if show := ip(t, "link show "+name); !strings.Contains(show, "link/ether "+want+" ") {
			t.Errorf("%s has not the address %s:\n%s", name, want, show)
		}
	}
	open(t, tuntap.Options{Name: "tun0", Mode: tuntap.TUN, Address: address}) // has none: nothing fails
}

func TestOpenKeepsThePersistenceOfAnAdministratorsDevice(t *testing.T) {
	enterNamespace(t)
	ip(t, "tuntap add adm0 mode tun pi")
	ip(t, "link set adm0 txqueuelen 123")
	for range 2 {
		d := open(t, tuntap.Options{Name: "adm0", Mode: tuntap.TUN, Queue: 777})
		if d.Created() {
			t.Error("Created() is true")
		}
		if show := ip(t, "-d link show adm0"); !strings.Contains(show, "persist on") || !strings.Contains(show, "qlen 123") {
			t.Errorf("the device was changed:\n%s", show)
		}
		if _, err := tuntap.FromFD(int(d.File().Fd()), tuntap.TUN); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !interfaceExists("adm0") {
		t.Error("the administrator's device is gone")
	}
}

func TestOpenNamesTheCauseOfAFailure(t *testing.T) {
	enterNamespace(t)
	ip(t, "link add veth0 type veth peer name veth1")
	ip(t, "tuntap add tap0 mode tap")
	ip(t, "tuntap add multi0 mode tun multi_queue")
	ip(t, "link add name br0 type bridge")
	open(t, tuntap.Options{Name: "held0", Mode: tuntap.TUN})
	tests := []struct {
		name string
		mode tuntap.Mode
		want error
		text string
	}{
		{"veth0", tuntap.TUN, tuntap.ErrForeign, "open tun veth0: the name is in use by an interface that is neither tun nor tap (veth)"},
		{"br0", tuntap.TAP, tuntap.ErrForeign, "(bridge)"},
		{"lo", tuntap.TUN, tuntap.ErrForeign, "open tun lo: "},
		{"tap0", tuntap.TUN, tuntap.ErrMode, "open tun tap0: the device exists in another mode: tap"},
		{"multi0", tuntap.TUN, tuntap.ErrMode, "multi_queue"},
		{"held0", tuntap.TUN, tuntap.ErrBusy, "open tun held0: the device is busy: another process holds it"},
		{"", tuntap.TUN, nil, "1 to 15 bytes"},
		{"sixteen-bytes-xx", tuntap.TUN, nil, "1 to 15 bytes"},
		{"tun%d", tuntap.TUN, nil, "'%'"},
		{"a/b", tuntap.TUN, nil, "'/'"},
		{"a b", tuntap.TUN, nil, "' '"},
		{"..", tuntap.TUN, nil, "reserved"},
		{"tun1", 0, nil, "neither tun nor tap"},
	}
	for _, tt := range tests {
		d, err := tuntap.Open(tuntap.Options{Name: tt.name, Mode: tt.mode})
		if err == nil {
			_ = d.Close()
			t.Errorf("%q: no error", tt.name)
			continue
		}
		if (tt.want != nil && !errors.Is(err, tt.want)) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%q: %v; want %v with %q", tt.name, err, tt.want, tt.text)
		}
	}
}

// The mounts are the test's own: the thread has a mount namespace too.
func TestOpenTellsThatTheCloneDeviceIsMissing(t *testing.T) {
	enterNamespace(t)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	_, err := tuntap.Open(tuntap.Options{Name: "x0", Mode: tuntap.TUN})
	if !errors.Is(err, tuntap.ErrUnavailable) {
		t.Errorf("with no file: %v", err)
	}
	// A device number that no driver serves, as without the module.
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o600, int(unix.Mkdev(251, 77))); err != nil {
		t.Fatal(err)
	}
	_, err = tuntap.Open(tuntap.Options{Name: "x0", Mode: tuntap.TUN})
	if !errors.Is(err, tuntap.ErrUnavailable) {
		t.Errorf("with no driver: %v", err)
	}
}

func TestOpenWithoutPrivilegeSaysSoAndLeavesNoDescriptor(t *testing.T) {
	enterNamespace(t)
	ip(t, "tuntap add other0 mode tun user 12345")
	dropNetAdmin(t)
	before := countClones(t)
	for _, name := range []string{"new0", "new0", "other0"} {
		_, err := tuntap.Open(tuntap.Options{Name: name, Mode: tuntap.TUN})
		if !errors.Is(err, tuntap.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := countClones(t); after != before {
		t.Errorf("%d descriptors of /dev/net/tun before, %d after", before, after)
	}
}

// dropNetAdmin takes the capability from the test's thread, which ends with the test.
func dropNetAdmin(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
}

func countClones(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && target == "/dev/net/tun" {
			n++
		}
	}
	return n
}

func TestNoProcessInheritsADescriptorByChance(t *testing.T) {
	enterNamespace(t)
	stop := make(chan struct{})
	var spawned sync.WaitGroup
	var inherited sync.Map
	for range 2 {
		spawned.Go(func() { // ends when stop is closed
			for {
				select {
				case <-stop:
					return
				default:
				}
				out, err := exec.Command("ls", "-l", "/proc/self/fd").CombinedOutput()
				if err != nil || strings.Contains(string(out), "/dev/net/tun") {
					inherited.Store(string(out), err)
				}
			}
		})
	}
	for range 100 {
		d := open(t, tuntap.Options{Name: "race0", Mode: tuntap.TUN})
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	spawned.Wait()
	inherited.Range(func(out, err any) bool {
		t.Errorf("a process got the device: %v\n%s", err, out)
		return false
	})
}

func TestOpenAfterCloseMakesANewInterface(t *testing.T) {
	enterNamespace(t)
	first := open(t, tuntap.Options{Name: "again0", Mode: tuntap.TAP})
	ip(t, "link del again0")
	if err := first.SetCarrier(true); !errors.Is(err, tuntap.ErrGone) {
		t.Errorf("SetCarrier on a removed interface: %v", err)
	}
	second := open(t, tuntap.Options{Name: "again0", Mode: tuntap.TAP})
	if first.Index() == second.Index() {
		t.Errorf("both have index %d", first.Index())
	}
}

func TestSetCarrierShowsInTheLinkAndKeepsTheAddresses(t *testing.T) {
	enterNamespace(t)
	d := open(t, tuntap.Options{Name: "car0", Mode: tuntap.TUN})
	ip(t, "addr add 10.1.0.1/24 dev car0")
	ip(t, "link set car0 up")
	for _, on := range []bool{false, true, false, true} {
		if err := d.SetCarrier(on); err != nil {
			t.Fatal(err)
		}
		show := ip(t, "addr show car0")
		if strings.Contains(show, "NO-CARRIER") == on || !strings.Contains(show, "10.1.0.1/24") {
			t.Errorf("carrier %v:\n%s", on, show)
		}
	}
}

func TestModeIsParsedAsItIsPrinted(t *testing.T) {
	for _, m := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
		if got, err := tuntap.ParseMode(m.String()); got != m || err != nil {
			t.Errorf("ParseMode(%q) = %v, %v", m, got, err)
		}
	}
	for _, s := range []string{"", "TUN", "tun ", "mode(0)"} {
		if m, err := tuntap.ParseMode(s); err == nil {
			t.Errorf("ParseMode(%q) = %v", s, m)
		}
	}
}
