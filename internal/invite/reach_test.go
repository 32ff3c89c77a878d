package invite_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tund/internal/config"
	"tund/internal/invite"
)

// lan are the networks of a host that is invited.
var lan = []netip.Prefix{netip.MustParsePrefix("192.168.7.5/24"), netip.MustParsePrefix("2001:db8::5/64")}

func reaches(t *testing.T, lines string) string {
	t.Helper()
	text := "[peer.alpha]\npublic_key = \"" + alphaKey + "\"\n" + lines
	i, err := invite.Parse("test", "/etc/tund/peers.d", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range i.Reaches(lan) {
		all = append(all, r.Key+": "+r.Effect)
	}
	return strings.Join(all, "\n")
}

func TestForeignInvitationReachesNoFurtherThanItsTunnel(t *testing.T) {
	for lines, want := range map[string]string{
		``: "",
		`endpoints = ["a:1"]` + "\nmode = \"tap\"\nmtu = 1400\nkeepalive = \"9s\"\nrekey_interval = \"5m\"\nkey_lifetime = \"2h\"": "",
		`addresses = ["10.77.0.2/30"]`:                              "",
		`addresses = ["10.77.0.2/24", "fd77::2/64"]`:                "",
		`addresses = ["100.64.9.2/31", "fe80::2/64"]`:               "",
		`interface = "tun-alpha"`:                                   "",
		`routes = []`:                                               "",
		`preshared_key_file = "../alpha.psk"`:                       "",
		`preshared_key_file = "/etc/tund/alpha.psk"`:                "",
		`addresses = ["9.9.9.9/8"]`:                                 "addresses: 9.9.9.9/8 is wide: traffic to all of 9.0.0.0/8 goes to alpha",
		`addresses = ["10.0.0.1/23"]`:                               "addresses: 10.0.0.1/23 is wide: traffic to all of 10.0.0.0/23 goes to alpha",
		`addresses = ["fd00::1/63"]`:                                "addresses: fd00::1/63 is wide: traffic to all of fd00::/63 goes to alpha",
		`addresses = ["9.9.9.9/32", "2001:4860::1/127"]`:            "addresses: 9.9.9.9/32 is not of a private range: it may be somebody else's; 2001:4860::1/127 is not of a private range: it may be somebody else's",
		`addresses = ["192.168.7.1/32"]`:                            "addresses: 192.168.7.1/32 is in a network of another interface of this host, 192.168.7.0/24",
		"addresses = [\"10.0.0.1/32\"]\npeer_address = \"8.8.8.8\"": "peer_address: 8.8.8.8/32 is not of a private range: it may be somebody else's",
		`interface = "lan0"`:                                        "interface: the device has the name lan0, which rules of this host may be about",
		`routes = ["0.0.0.0/1", "128.0.0.0/1"]`:                     "routes: traffic to 0.0.0.0/1, 128.0.0.0/1 goes to alpha",
		`routes = ["::/0"]`:                                         "routes: traffic to ::/0 goes to alpha",
		`allowed_ips = ["any"]`:                                     "allowed_ips: packets from alpha may have source addresses of other networks",
		"mode = \"tap\"\nbridge = \"br0\"":                          "bridge: alpha becomes a part of the network of the bridge br0",
		`preshared_key_file = "/etc/passwd"`:                        "preshared_key_file: the key is read from /etc/passwd",
		`preshared_key_file = "alpha.psk"`:                          "preshared_key_file: the key is read from /etc/tund/peers.d/alpha.psk",
		`enabled = false`:                                           "enabled: tunctl invite does not write this key",
		`queue = 99`:                                                "queue: tunctl invite does not write this key",
	} {
		if got := reaches(t, lines); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", lines, got, want)
		}
	}
}

// What invite itself prints, join takes without a word; every other key has to be allowed.
func TestInvitationsOfOurOwnReachNoFurther(t *testing.T) {
	i, err := invitation(t, "addresses = [\"10.77.0.1/24\", \"fd77::1/64\"]\nmode = \"tap\"\nbridge = \"br0\"\nroutes = [\"10.20.0.0/16\"]\n"+
		"preshared_key_file = \"beta.psk\"\nmtu = 1400\nkeepalive = \"9s\"\nrekey_interval = \"5m\"\nkey_lifetime = \"2h\"\nqueue = 77\nenabled = false\n",
		"10.77.0.2/24", "fd77::2/64")
	if err != nil {
		t.Fatal(err)
	}
	read, err := invite.Parse("test", "/etc/tund/peers.d", []byte(i.Text()))
	if err != nil {
		t.Fatal(err)
	}
	if reach := read.Reaches(lan); len(reach) > 0 {
		t.Errorf("our own invitation reaches further: %+v", reach)
	}
	if keys := read.Peer.Changed(); slices.ContainsFunc(keys, func(k string) bool {
		return slices.Contains([]string{"routes", "bridge", "queue", "enabled", "interface"}, k)
	}) {
		t.Errorf("it writes %v", keys)
	}
}

func TestEveryKeyIsWrittenByInviteOrNeedsToBeAllowed(t *testing.T) {
	for _, k := range config.Schema() {
		if k.Table == "peer" && k.Name != "public_key" && k.Name != "endpoints" && k.Name != "mode" &&
			k.Name != "mtu" && k.Name != "rekey_interval" && k.Name != "keepalive" && k.Name != "key_lifetime" &&
			!slices.Contains(invite.Allowable(), k.Name) {
			t.Errorf("%s is neither", k.Name)
		}
	}
}
