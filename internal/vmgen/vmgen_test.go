package vmgen

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The event as vmgenid's kobject_uevent_env makes it: on ACPI, and as a platform device.
var events = map[string]string{
	"ACPI": "change@/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/QEMUVGID:00\x00ACTION=change\x00" +
		"DEVPATH=/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A08:00/QEMUVGID:00\x00SUBSYSTEM=acpi\x00NEW_VMGENID=1\x00" +
		"MODALIAS=acpi:QEMUVGID:VM_GEN_COUNTER:\x00SEQNUM=1812\x00",
	"platform": "change@/devices/platform/VMGENCTR:00\x00ACTION=change\x00DEVPATH=/devices/platform/VMGENCTR:00\x00" +
		"SUBSYSTEM=platform\x00NEW_VMGENID=1\x00DRIVER=vmgenid\x00MODALIAS=acpi:VMGENCTR:VM_GEN_COUNTER:\x00SEQNUM=1903\x00",
}

func TestAChangeOfGenerationIsRecognised(t *testing.T) {
	for name, event := range events {
		if !changed([]byte(event)) {
			t.Errorf("%s: not recognised", name)
		}
	}
}

func TestOtherEventsAreNone(t *testing.T) {
	good := events["ACPI"]
	for name, event := range map[string]string{
		"nothing":           "",
		"no end":            strings.TrimSuffix(good, "\x00"),
		"cut":               good[:40],
		"another action":    strings.ReplaceAll(good, "change", "add"),
		"two actions":       strings.Replace(good, "ACTION=change", "ACTION=add", 1),
		"another path":      strings.Replace(good, "DEVPATH=/devices/LNX", "DEVPATH=/devices/XNL", 1),
		"no path":           strings.Replace(good, "change@/", "change@", 1),
		"the same":          strings.Replace(good, "NEW_VMGENID=1", "NEW_VMGENID=0", 1),
		"longer key":        strings.Replace(good, "NEW_VMGENID=1", "XNEW_VMGENID=1", 1),
		"longer value":      strings.Replace(good, "NEW_VMGENID=1", "NEW_VMGENID=12", 1),
		"twice":             strings.Replace(good, "NEW_VMGENID=1", "NEW_VMGENID=0\x00NEW_VMGENID=1", 1),
		"a field with no =": strings.Replace(good, "SUBSYSTEM=acpi", "SUBSYSTEM", 1),
		"of udev":           "libudev\x00\xfe\xed\xca\xfe" + good,
		"of the network":    "add@/devices/virtual/net/tun0\x00ACTION=add\x00DEVPATH=/devices/virtual/net/tun0\x00SUBSYSTEM=net\x00SEQNUM=1\x00",
	} {
		if changed([]byte(event)) {
			t.Errorf("%s: taken for a change of generation", name)
		}
	}
}

func TestOnlyTheKernelIsBelieved(t *testing.T) {
	event := []byte(events["ACPI"])
	for name, c := range map[string]struct {
		from  unix.Sockaddr
		n     int
		calls int
	}{
		"the kernel":        {&unix.SockaddrNetlink{Groups: kernelEvents}, len(event), 1},
		"a process":         {&unix.SockaddrNetlink{Pid: 4711, Groups: kernelEvents}, len(event), 0},
		"udev":              {&unix.SockaddrNetlink{Pid: 4711, Groups: 2}, len(event), 0},
		"to this one alone": {&unix.SockaddrNetlink{}, len(event), 0},
		"no address":        {nil, len(event), 0},
		"did not fit":       {&unix.SockaddrNetlink{Groups: kernelEvents}, len(event) + 1, 0},
	} {
		calls := 0
		w := watcher{log: slog.New(slog.DiscardHandler), cloned: func() { calls++ }}
		if err := w.take(event, c.n, c.from, nil); err != nil || calls != c.calls {
			t.Errorf("%s: %d calls, %v", name, calls, err)
		}
	}
}

func TestLostEventsAreNoReasonToEnd(t *testing.T) {
	w := watcher{log: slog.New(slog.DiscardHandler), cloned: func() { t.Error("cloned") }}
	for failed, ends := range map[error]bool{unix.ENOBUFS: false, unix.EINTR: false, unix.EBADF: true} {
		if err := w.take(nil, 0, nil, failed); (err != nil) != ends || ends && !errors.Is(err, failed) {
			t.Errorf("%v: %v", failed, err)
		}
	}
}

// The real socket can be had, and is closed with ctx.
func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, slog.New(slog.DiscardHandler), func() {}) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzChanged(f *testing.F) {
	for _, event := range events {
		f.Add([]byte(event))
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		if changed(event) && !strings.Contains(string(event), "\x00NEW_VMGENID=1\x00") {
			t.Errorf("%q", event)
		}
	})
}
