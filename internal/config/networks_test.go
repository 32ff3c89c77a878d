package config_test

import (
	"fmt"
	"strings"
	"testing"

	"tund/internal/config"
)

// node has a peer a, b, … for each text, which holds its keys.
func nodeWith(peers ...string) string {
	text := "[node]\nprivate_key_file = \"k\"\n"
	for i, keys := range peers {
		name := string(rune('a' + i))
		text += fmt.Sprintf("[peer.%s]\npublic_key = %q\nendpoints = [\"192.0.2.%d:7900\"]\n%s\n", name, publicKey(name), i+1, keys)
	}
	return text
}

func TestWhatUnnumberedLinksShareIsTaken(t *testing.T) {
	for name, peers := range map[string][]string{
		"the same host address": {`addresses = ["10.0.0.1/32"]`, `addresses = ["10.0.0.1/32"]`, `addresses = ["10.0.0.1/32"]`},
		"the same IPv6 host address": {
			`addresses = ["fd42::1/128"]`, `addresses = ["fd42::1/128"]`,
		},
		"the same host address, and each peer's": {
			"addresses = [\"172.20.1.1/32\"]\npeer_address = \"172.20.2.1\"",
			"addresses = [\"172.20.1.1/32\"]\npeer_address = \"172.20.3.1\"",
		},
		"the same link-local network": {
			`addresses = ["fe80::1/64", "169.254.0.1/16"]`, `addresses = ["fe80::1/64", "169.254.0.1/16"]`,
		},
		"the same link-local addresses at both ends": {
			"addresses = [\"fe80::1/64\"]\npeer_address = \"fe80::2\"", "addresses = [\"fe80::1/64\"]\npeer_address = \"fe80::2\"",
		},
		"a host address of a network": {`addresses = ["10.0.0.1/24"]`, `addresses = ["10.0.0.1/32"]`, `addresses = ["10.0.0.7/32"]`},
		"a peer in another one's network": {
			`addresses = ["10.0.0.1/24"]`, "addresses = [\"10.0.0.1/32\"]\npeer_address = \"10.0.0.77\"",
		},
		"the network of an address that only its peer is behind": {
			"addresses = [\"10.0.0.1/24\"]\npeer_address = \"10.9.0.2\"", "addresses = [\"10.0.0.1/24\"]\npeer_address = \"10.9.0.3\"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := config.Parse(testPath, []byte(nodeWith(peers...))); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatLeavesOpenWhereAnAddressIsIsRefused(t *testing.T) {
	for want, peers := range map[string][]string{
		"b.addresses: 10.0.0.2/24 overlaps 10.0.0.0/24 of peer a":            {`addresses = ["10.0.0.1/24"]`, `addresses = ["10.0.0.2/24"]`},
		"b.addresses: 10.0.0.1/31 overlaps 10.0.0.0/31 of peer a":            {`addresses = ["10.0.0.1/31"]`, `addresses = ["10.0.0.1/31"]`},
		"b.addresses: fd42:0:0:1::1/64 overlaps fd42::/48 of peer a":         {`addresses = ["fd42::1/48"]`, `addresses = ["fd42:0:0:1::1/64"]`},
		"b.peer_address: 10.0.0.9 is the address of peer a already":          {"addresses = [\"10.0.0.1/32\"]\npeer_address = \"10.0.0.9\"", "addresses = [\"10.0.0.1/32\"]\npeer_address = \"10.0.0.9\""},
		"b.peer_address: 10.0.0.1 is this node's own address towards peer a": {`addresses = ["10.0.0.1/32"]`, "addresses = [\"10.0.0.3/32\"]\npeer_address = \"10.0.0.1\""},
		"b.routes: 10.0.0.1/32 is there already, by the addresses of peer a": {`addresses = ["10.0.0.1/32"]`, `routes = ["10.0.0.1/32"]`},
	} {
		t.Run(want, func(t *testing.T) {
			_, err := config.Parse(testPath, []byte(nodeWith(peers...)))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
		})
	}
}
