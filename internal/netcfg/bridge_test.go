package netcfg_test

import (
	"strings"
	"testing"

	"tund/internal/netcfg"
	"tund/internal/tuntap"
)

func TestApplyMovesAnInterfaceBetweenBridges(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	for _, b := range []string{"br0", "br1"} {
		ip(t, "link add "+b+" type bridge")
		ip(t, "link set "+b+" up mtu 1450")
	}
	old := netcfg.Settings{}
	for _, bridge := range []string{"br0", "br0", "br1", "", "", "br1", "br0"} {
		next := settings(t, "mtu 1400")
		next.Bridge = bridge
		apply(t, m, old, next)
		if got := master(t); got != bridge {
			t.Errorf("the bridge is %q, want %q", got, bridge)
		}
		if mtu := ip(t, "-o link show br0"); !strings.Contains(mtu, "mtu 1450") {
			t.Errorf("the MTU of the bridge was changed: %s", mtu)
		}
		old = next
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
	apply(t, m, netcfg.Settings{}, settings(t, "10.1.0.1/24"))
	apply(t, m, settings(t, "bridge br1"), settings(t, ""))
	apply(t, m, settings(t, "bridge gone0"), settings(t, ""))
	if got := master(t); got != "br0" {
		t.Errorf("the bridge is %q", got)
	}
}

func TestApplyPutsTheBridgeBackWhenALaterStepFails(t *testing.T) {
	m := newRig(t, tuntap.TAP)
	ip(t, "link add br0 type bridge")
	ip(t, "link add br1 type bridge")
	old := settings(t, "bridge br0")
	apply(t, m, netcfg.Settings{}, old)
	for _, bad := range []string{"bridge br1 mtu 100000", "mtu 100000"} {
		if err := m.Apply(old, settings(t, bad)); err == nil {
			t.Error("no error")
		}
		if got := master(t); got != "br0" {
			t.Errorf("the bridge is %q", got)
		}
	}
}

func TestATunCannotJoinABridge(t *testing.T) {
	m := newRig(t, tuntap.TUN)
	ip(t, "link add br0 type bridge")
	err := m.Apply(netcfg.Settings{}, settings(t, "bridge br0"))
	if err == nil || !strings.Contains(err.Error(), "mode tap is needed") {
		t.Errorf("error is %v", err)
	}
}
