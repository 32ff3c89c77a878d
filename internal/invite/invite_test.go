package invite_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tund/internal/config"
	"tund/internal/invite"
	"tund/internal/keys"
)

// The public keys of two nodes.
const (
	alphaKey = "pRFG04B3/5kuuoTPHV6bJJBzUD63SGhpkBYVOwMaOPc="
	betaKey  = "9E5k5185SOn3P436lHIcTOjLtPJlxHkMcCstQc+/J1M="
)

func key(text string) keys.PublicKey {
	k, err := keys.ParsePublicKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

// beta returns alpha's peer beta with these further lines in its table.
func beta(t *testing.T, lines string) *config.Peer {
	t.Helper()
	peers, err := config.ParsePeers("test", "/etc/tund/peers.d", []byte("[peer.beta]\npublic_key = \""+betaKey+"\"\n"+lines))
	if err != nil {
		t.Fatal(err)
	}
	return &peers[0]
}

// invitation makes alpha's invitation to beta; other holds addresses of beta.
func invitation(t *testing.T, lines string, other ...string) (*invite.Invite, error) {
	t.Helper()
	o := invite.Options{Name: "alpha", Endpoints: []config.Endpoint{{Host: "alpha.example.org", Port: 7900}}}
	for _, address := range other {
		o.Addresses = append(o.Addresses, netip.MustParsePrefix(address))
	}
	return invite.New(key(alphaKey), beta(t, lines), o)
}

func TestAddressesOfTheOtherSideMirrorOurs(t *testing.T) {
	for _, c := range []struct {
		name, ours string
		given      string
		want       string // addresses, the peer's address, and what is not known
	}{
		{"nothing", ``, "", "[] - []"},
		{"the first of two hosts", `addresses = ["10.77.0.1/30"]`, "", "[10.77.0.2/30] - []"},
		{"the second of two hosts", `addresses = ["10.77.0.6/30"]`, "", "[10.77.0.5/30] - []"},
		{"a network for two", `addresses = ["10.77.0.4/31", "fd77::1/127"]`, "", "[10.77.0.5/31 fd77::/127] - []"},
		{"no host of its network", `addresses = ["10.77.0.3/30"]`, "", "[] - [10.77.0.3/30]"},
		{"more than two hosts", `addresses = ["10.77.0.1/29", "fd77::1/126"]`, "", "[] - [10.77.0.1/29 fd77::1/126]"},
		{"one host", `addresses = ["10.77.0.1/32", "fe80::1/64"]`, "", "[] - [10.77.0.1/32 fe80::1/64]"},
		{"a peer's address", "addresses = [\"10.77.0.9/24\", \"fd77::1/64\"]\npeer_address = \"fd77::7\"", "", "[fd77::7/64] fd77::1 [10.77.0.9/24]"},
		{"a peer's address elsewhere", "addresses = [\"10.77.0.1/32\"]\npeer_address = \"192.168.9.1\"", "", "[192.168.9.1/32] 10.77.0.1 []"},
		{"one given", `addresses = ["10.77.0.1/24", "fd77::1/127"]`, "10.77.0.5/24", "[10.77.0.5/24 fd77::/127] - []"},
		{"all given", `addresses = ["10.77.0.1/24", "fd77::1/64"]`, "10.77.0.5/24 fd77::5/64", "[10.77.0.5/24 fd77::5/64] - []"},
		{"given beyond ours", `addresses = ["10.77.0.1/24"]`, "10.88.0.5/24", "[10.88.0.5/24] - [10.77.0.1/24]"},
		{"given in place of what follows", `addresses = ["10.77.0.1/30"]`, "10.77.0.2/32", "[10.77.0.2/32] - []"},
		{"given the peer's address", "addresses = [\"10.77.0.1/32\"]\npeer_address = \"10.9.9.9\"", "10.9.9.9/32", "[10.9.9.9/32] 10.77.0.1 []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i, err := invitation(t, c.ours, strings.Fields(c.given)...)
			if err != nil {
				t.Fatal(err)
			}
			peer := "-"
			if i.Peer.PeerAddress.IsValid() {
				peer = i.Peer.PeerAddress.String()
			}
			if got := fmt.Sprint(i.Peer.Addresses, " ", peer, " ", i.Unanswered); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if unknown := slices.ContainsFunc(i.Notes, func(n string) bool { return strings.Contains(n, "own address") }); unknown != (len(i.Unanswered) > 0) {
				t.Errorf("notes %q", i.Notes)
			}
		})
	}
}

func TestAddressesThatContradictOursAreRefused(t *testing.T) {
	for lines, given := range map[string]string{
		`addresses = ["10.77.0.1/24"]`:                                 "10.77.0.1/24",
		"addresses = [\"10.77.0.1/24\"]\npeer_address = \"10.77.0.2\"": "10.77.0.3/24",
	} {
		if i, err := invitation(t, lines, given); err == nil {
			t.Errorf("%s with %s gives %v", lines, given, i.Peer.Addresses)
		}
	}
}

// What both sides must have alike is in the text; what is this host's own is not.
func TestInvitationIsThePeerFileOfTheOtherSide(t *testing.T) {
	i, err := invitation(t, `
endpoints = ["beta.example.org:7901"]
mode = "tap"
bridge = "br0"
interface = "left"
addresses = ["10.77.0.1/30", "fd77::1/64"]
routes = ["10.20.0.0/16"]
mtu = 1400
queue = 50
offload = "off"
keepalive = "9s"
rekey_interval = "5m"
key_lifetime = "2h"
preshared_key_file = "/etc/tund/beta.psk"
accept_stay_down = false
enabled = false
`)
	if err != nil {
		t.Fatal(err)
	}
	const want = `# An invitation from alpha, made by tunctl invite. On the host that it is for:
#     tunctl join FILE
#:for ` + betaKey + `

[peer.alpha]
public_key = "` + alphaKey + `"
endpoints = ["alpha.example.org:7900"]
mode = "tap"
addresses = ["10.77.0.2/30"]
mtu = 1400
preshared_key_file = "../alpha.psk"
rekey_interval = "5m"
keepalive = "9s"
key_lifetime = "2h"
# alpha has fd77::1/64 here, which does not tell this node's own address: add it to addresses, with its length.
# alpha's device is a port of a bridge; for the same here add: bridge = "NAME"
# The pre-shared key comes in a file of its own: tunctl join FILE --psk KEYFILE
`
	if i.Text() != want {
		t.Errorf("got\n%s\nwant\n%s", i.Text(), want)
	}
	read, err := invite.Parse("test", "/etc/tund/peers.d", []byte(i.Text()))
	if err != nil {
		t.Fatal(err)
	}
	if read.For != key(betaKey) || read.Peer.PresharedKeyFile != "/etc/tund/alpha.psk" || read.Peer.PublicKey != key(alphaKey) {
		t.Errorf("read as %+v", read)
	}
}

// A node that only dials is found by nobody: the other side must know where to listen.
func TestInvitationOfANodeThatOnlyDialsSaysWhere(t *testing.T) {
	i, err := invite.New(key(alphaKey), beta(t, `endpoints = ["beta.example.org:7901"]`), invite.Options{Name: "alpha"})
	if err != nil || len(i.Peer.Endpoints) != 0 || len(i.Notes) != 1 || !strings.Contains(i.Notes[0], "beta.example.org:7901") {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestEndpointsAreWhereOthersReachTheListeners(t *testing.T) {
	host := []netip.Addr{netip.MustParseAddr("198.51.100.5"), netip.MustParseAddr("2001:db8::5")}
	for listen, want := range map[string]string{
		"":                                "[]",
		"[::]:7900":                       "[198.51.100.5:7900 [2001:db8::5]:7900]",
		"0.0.0.0:7900":                    "[198.51.100.5:7900]",
		"192.0.2.1:443 [::]:7900":         "[192.0.2.1:443 198.51.100.5:7900 [2001:db8::5]:7900]",
		"127.0.0.1:7900 [fe80::1%a]:7900": "[]",
		"198.51.100.5:7900 0.0.0.0:7901":  "[198.51.100.5:7900 198.51.100.5:7901]",
		"[2001:db8::9]:7900":              "[[2001:db8::9]:7900]",
	} {
		var all []netip.AddrPort
		for text := range strings.FieldsSeq(listen) {
			all = append(all, netip.MustParseAddrPort(text))
		}
		if got := fmt.Sprint(invite.Endpoints(all, host)); got != want {
			t.Errorf("listening at %q: %s, want %s", listen, got, want)
		}
	}
}

const table = "[peer.alpha]\npublic_key = \"" + alphaKey + "\"\n"

func TestInvitationsAreReadStrictly(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "test: holds 0 peers, not one"},
		{"two peers", table + "[peer.beta]\npublic_key = \"" + betaKey + "\"\n", "test: holds 2 peers, not one"},
		{"a node", table + "[node]\nlisten = []\n", "test:3: node: only [peer.NAME] tables are allowed in peers.d"},
		{"an unknown key", table + "mttu = 1400\n", `test:3: peer.alpha.mttu: unknown key "mttu" (did you mean "mtu"?)`},
		{"a later directive", "\n# A\n#:until 2030\n" + table, `test:3: unknown directive "until": is it from a later version of tund?`},
		{"a key that is none", "#:for me\n" + table, "test:1: does not say for whom it is by a public key, as tunctl pubkey prints it"},
		{"a key with more", "#:for " + betaKey + " x\n" + table, "test:1: does not say for whom it is by a public key, as tunctl pubkey prints it"},
		{"two keys", "#:for " + betaKey + "\r\n#:for " + alphaKey + "\r\n" + table, "test:2: says for whom it is twice"},
		{"no TOML", table + "mtu 1400\n", "test:3: expected '.' or '=', but got '1' instead (column 5)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i, err := invite.Parse("test", "/", []byte(c.text))
			var wrong *config.Errors
			if !errors.As(err, &wrong) || err.Error() != c.want {
				t.Errorf("got %v, %v; want %s", i, err, c.want)
			}
		})
	}
}

func TestDirectivesStandAtTheHeadOnly(t *testing.T) {
	for text, want := range map[string]keys.PublicKey{
		table: {},
		"\ufeff \t#:for " + betaKey + " \r\n" + table: key(betaKey),
		table + "#:for " + betaKey + "\n":             {},
		table + "#:nonsense\n":                        {},
	} {
		if i, err := invite.Parse("test", "/", []byte(text)); err != nil || i.For != want || i.Peer.Name != "alpha" {
			t.Errorf("%q: %+v, %v", text, i, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", table, "#:for " + betaKey + "\n" + table,
		"#:for " + betaKey + "\n" + table + "addresses = [\"10.77.0.2/30\"]\npeer_address = \"10.77.0.1\"\nmtu = 1400\npreshared_key_file = \"../a.psk\"\n",
		table + "interface = \"left\"\nenabled = false\naccept_stay_down = false\nmode = \"tap\"\nbridge = \"br0\"\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		i, err := invite.Parse("test", "/etc/tund/peers.d", []byte(text))
		if err != nil {
			return
		}
		again, err := invite.Parse("test", "/etc/tund/peers.d", []byte(i.Text()))
		if err != nil {
			t.Fatalf("its own text is refused: %v\n%s", err, i.Text())
		}
		if !reflect.DeepEqual(i, again) {
			t.Errorf("its own text is read as another one:\n%s", i.Text())
		}
	})
}
