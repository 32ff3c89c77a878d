package tuntap_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/tuntap"
)

// duplicate returns another descriptor of the device, as an earlier process leaves it.
func duplicate(t *testing.T, d *tuntap.Device) *os.File {
	t.Helper()
	raw, err := d.File().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	if err := errors.Join(raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }), err); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "stored")
}

func TestAdoptTakesOverADeviceAsItIs(t *testing.T) {
	for _, mode := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
		t.Run(mode.String(), func(t *testing.T) {
			enterNamespace(t)
			first, err := tuntap.Open(tuntap.Options{Name: "kept0", Mode: mode, Queue: 777})
			if err != nil {
				t.Fatal(err)
			}
			ip(t, "link set kept0 up")
			ip(t, "addr add 10.1.2.3/24 dev kept0")
			if err := first.SetCarrier(true); err != nil {
				t.Fatal(err)
			}
			file := duplicate(t, first)
			_ = first.Close()
			if name, got, err := tuntap.Identify(file); name != "kept0" || got != mode || err != nil {
				t.Errorf("Identify = %s, %s, %v", name, got, err)
			}
			d, err := tuntap.Adopt(file, tuntap.Options{Name: "kept0", Mode: mode, Queue: 777, Offloads: tuntap.OffloadAll})
			if err != nil {
				t.Fatal(err)
			}
			carrier, err := d.Carrier()
			if !d.Created() || d.Index() != first.Index() || d.Offloads()&tuntap.OffloadTSO4 == 0 || !carrier || err != nil {
				t.Errorf("device is %+v, carrier %t, %v", d, carrier, err)
			}
			if show := ip(t, "addr show kept0"); !strings.Contains(show, "10.1.2.3/24") {
				t.Errorf("the address is gone:\n%s", show)
			}
			if err := d.SetCarrier(false); err != nil {
				t.Fatal(err)
			}
			if carrier, err := d.Carrier(); carrier || err != nil {
				t.Errorf("carrier %t, %v", carrier, err)
			}
			_ = d.Close()
			if interfaceExists("kept0") {
				t.Error("the interface outlives its descriptor")
			}
		})
	}
}

func TestAdoptKnowsAnAdministratorsDevice(t *testing.T) {
	enterNamespace(t)
	ip(t, "tuntap add adm0 mode tun")
	d := open(t, tuntap.Options{Name: "adm0", Mode: tuntap.TUN})
	adopted, err := tuntap.Adopt(duplicate(t, d), tuntap.Options{Name: "adm0", Mode: tuntap.TUN, Queue: 99})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = adopted.Close() }()
	if adopted.Created() {
		t.Error("Created() is true")
	}
}

func TestAdoptRefusesWhatDoesNotFit(t *testing.T) {
	enterNamespace(t)
	d := open(t, tuntap.Options{Name: "kept0", Mode: tuntap.TUN, Queue: 777})
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	deleted := open(t, tuntap.Options{Name: "gone0", Mode: tuntap.TUN})
	ip(t, "link del gone0")
	for name, c := range map[string]struct {
		file *os.File
		o    tuntap.Options
		want error
	}{
		"another name":  {duplicate(t, d), tuntap.Options{Name: "kept1", Mode: tuntap.TUN}, tuntap.ErrForeign},
		"another mode":  {duplicate(t, d), tuntap.Options{Name: "kept0", Mode: tuntap.TAP}, tuntap.ErrMode},
		"another queue": {duplicate(t, d), tuntap.Options{Name: "kept0", Mode: tuntap.TUN, Queue: 5}, tuntap.ErrQueue},
		"no device":     {null, tuntap.Options{Name: "kept0", Mode: tuntap.TUN}, unix.ENOTTY},
		"deleted":       {duplicate(t, deleted), tuntap.Options{Name: "gone0", Mode: tuntap.TUN}, tuntap.ErrGone},
	} {
		if _, err := tuntap.Adopt(c.file, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		_ = c.file.Close()
	}
}
