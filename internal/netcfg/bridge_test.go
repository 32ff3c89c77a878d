package netcfg_test

import (
	"strings"
	"testing"

	"tund/internal/tuntap"
)

func TestApplyMovesAnInterfaceBetweenBridges(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	for _, b := range []string{"br0", "br1"} {
		ip(t, "link add "+b+" type bridge")
		ip(t, "link set "+b+" up mtu 1450")
	}
	for _, bridge := range []string{"br0", "br0", "br1", "", "", "br1", "br0"} {
		next := settings(t, "mtu 1400")
		next.Bridge = bridge
		apply(t, m, next)
		if got := master(t); got != bridge {
			t.Errorf("the bridge is %q, want %q", got, bridge)
		}
		if mtu := ip(t, "-o link show br0"); !strings.Contains(mtu, "mtu 1450") {
			t.Errorf("the MTU of the bridge was changed: %s", mtu)
		}
	}
}

func master(t *testing.T) string {
	t.Helper()
	f := strings.Fields(link(t))
	for i := range f {
		if f[i] == "master" {
			return f[i+1]
		}
	}
	return ""
}

func TestApplyLeavesABridgeThatItDidNotChoose(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	ip(t, "link add br0 type bridge")
	ip(t, "link add br1 type bridge")
	ip(t, "link set dev0 master br0")
	apply(t, m, settings(t, "10.1.0.1/24"))
	m.Inherit(settings(t, "bridge br1"))
	apply(t, m, settings(t, ""))
	m.Inherit(settings(t, "bridge gone0"))
	apply(t, m, settings(t, ""))
	if got := master(t); got != "br0" {
		t.Errorf("the bridge is %q", got)
	}
}

func TestAPortIsNotLeftInABridgeThatIsNotWanted(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	ip(t, "link add br0 type bridge")
	apply(t, m, settings(t, "bridge br0"))
	wantMissing(t, m.Set(settings(t, "bridge br1")), "bridge br1: it does not exist")
	if got := master(t); got != "" {
		t.Errorf("the bridge is %q", got)
	}
}

func TestABridgeThatCannotBeLeavesTheRest(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	for bridge, want := range map[string]string{
		"br9": "bridge br9: it does not exist",
		"lo":  "bridge lo: it is not a bridge but of kind device",
	} {
		wantMissing(t, m.Set(settings(t, "10.1.0.1/24 via 10.20.0.0/16 mtu 1400 bridge "+bridge)), want)
		checkState(t, settings(t, "10.1.0.1/24 via 10.20.0.0/16 mtu 1400"), "")
	}
}

func TestATunCannotJoinABridge(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	ip(t, "link add br0 type bridge")
	wantMissing(t, m.Set(settings(t, "bridge br0")), "bridge br0: the interface carries packets, not frames (mode tap is needed)")
}
