package daemon

import (
	"net/netip"
	"testing"

	"tund/internal/config"
	"tund/internal/keys"
)

func addrs(texts ...string) (found []netip.Addr) {
	for _, text := range texts {
		found = append(found, netip.MustParseAddr(text))
	}
	return found
}

func expected(t *testing.T, n *node, want bool, texts ...string) {
	t.Helper()
	for _, addr := range addrs(texts...) {
		if n.expects(addr) != want {
			t.Errorf("%s: expected %t", addr, !want)
		}
	}
}

func TestPeersAreExpectedAtTheirEndpointsAndWhereTheyWereLast(t *testing.T) {
	n := testNode()
	with := func(peers ...config.Peer) {
		n.use(&config.Config{Node: config.Node{PrivateKey: keys.Secret{1}}, Peers: peers})
	}
	a := config.Peer{Name: "a", Endpoints: []config.Endpoint{{Host: "192.0.2.1"}, {Host: "a.example"}, {Host: "2001:db8:5::1"}}}
	with(a, config.Peer{Name: "b"})
	expected(t, n, true, "192.0.2.1", "::ffff:192.0.2.1", "2001:db8:5::2")
	expected(t, n, false, "192.0.2.2", "2001:db8:5:1::1", "192.0.2.7", "198.51.100.1")

	n.Located("a", "a.example", addrs("192.0.2.7", "2001:db8:7::1"))
	n.Located("b", "", addrs("::ffff:198.51.100.1"))
	expected(t, n, true, "192.0.2.7", "2001:db8:7::abcd", "198.51.100.1")

	n.Located("b", "", addrs("198.51.100.2"))
	n.Located("a", "a.example", addrs("192.0.2.8"))
	expected(t, n, true, "192.0.2.8", "198.51.100.2")
	expected(t, n, false, "192.0.2.7", "2001:db8:7::1", "198.51.100.1")

	a.Endpoints = a.Endpoints[:1]
	with(a, config.Peer{Name: "b"})
	expected(t, n, true, "192.0.2.1", "198.51.100.2")
	expected(t, n, false, "192.0.2.8")

	with()
	expected(t, n, false, "192.0.2.1", "198.51.100.2")
}

func TestAPeerThatIsGoneCannotComeBackAsASource(t *testing.T) {
	n := testNode()
	n.Located("gone", "", addrs("192.0.2.1"))
	expected(t, n, false, "192.0.2.1")
}
