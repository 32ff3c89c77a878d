package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"tund/internal/aead"
	"tund/internal/config"
	"tund/internal/keys"
)

func testNode(listen ...string) *node {
	cfg := &config.Config{Node: config.Node{PrivateKey: keys.Secret{1}}}
	for _, l := range listen {
		cfg.Node.Listen = append(cfg.Node.Listen, netip.MustParseAddrPort(l))
	}
	return newNode(cfg, nil, nil)
}

func TestDataLeavesFromWhereTheDoorReceives(t *testing.T) {
	for _, c := range []struct {
		listen       []string
		remote, want string
	}{
		{[]string{"[::]:7900"}, "192.0.2.1", "[::]:7900"},
		{[]string{"[::]:7900"}, "2001:db8::1", "[::]:7900"},
		{[]string{"0.0.0.0:7900"}, "192.0.2.1", "0.0.0.0:7900"},
		{[]string{"0.0.0.0:7900"}, "2001:db8::1", "[::]:0"},
		{[]string{"[2001:db8::2]:1", "192.0.2.2:2"}, "192.0.2.1", "192.0.2.2:2"},
		{[]string{"[2001:db8::2]:1", "192.0.2.2:2"}, "2001:db8::1", "[2001:db8::2]:1"},
		{nil, "192.0.2.1", "0.0.0.0:0"},
		{nil, "2001:db8::1", "[::]:0"},
	} {
		if got := testNode(c.listen...).Local(netip.MustParseAddr(c.remote)).String(); got != c.want {
			t.Errorf("listening on %v, to %s: from %s, want %s", c.listen, c.remote, got, c.want)
		}
	}
}

func TestAnAddressThatARouteCoversIsNotReachable(t *testing.T) {
	n := testNode()
	n.use(&config.Config{
		Node:  config.Node{PrivateKey: keys.Secret{1}},
		Peers: []config.Peer{{Name: "a", Routes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
	})
	if n.Reachable(netip.MustParseAddr("10.1.2.3")) == nil {
		t.Error("10.1.2.3 is covered by 10.0.0.0/8")
	}
	if err := n.Reachable(netip.MustParseAddr("192.0.2.1")); err != nil {
		t.Error(err)
	}
}

func TestTheCiphersOfTheConfigurationComeFirst(t *testing.T) {
	n := testNode()
	if !slices.Equal(n.AEADs(), aead.Preferred()) {
		t.Errorf("%v by default", n.AEADs())
	}
	n.use(&config.Config{Node: config.Node{PrivateKey: keys.Secret{1}, AEAD: []keys.AEAD{keys.ChaCha20Poly1305}}})
	if got := n.AEADs(); len(got) != 1 || got[0] != keys.ChaCha20Poly1305 {
		t.Errorf("%v", got)
	}
}

func TestTheIdentityChangesWithTheKeyOnly(t *testing.T) {
	n := testNode()
	before := n.Identity()
	n.use(&config.Config{Node: config.Node{PrivateKey: keys.Secret{1}}})
	if n.Identity() != before {
		t.Error("the same key made another identity")
	}
	n.use(&config.Config{Node: config.Node{PrivateKey: keys.Secret{2}}})
	if n.Identity().Public() == before.Public() {
		t.Error("another key made the same identity")
	}
}
