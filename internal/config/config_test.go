package config_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/internal/config"
	"tund/internal/keys"
)

// publicKey returns a key that is made of a name.
func publicKey(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// manyPeers returns a configuration with n peers.
func manyPeers(n int) string {
	var b strings.Builder
	b.WriteString("[node]\nprivate_key_file = \"k\"\nlisten = [\"[::]:7900\"]\n")
	for i := range n {
		fmt.Fprintf(&b, "[peer.p%d]\npublic_key = %q\nendpoints = [\"192.0.2.%d:7900\"]\n", i, publicKey(fmt.Sprint(i)), i%250+1)
		fmt.Fprintf(&b, "addresses = [\"10.%d.%d.1/24\"]\nroutes = [\"172.%d.%d.0/24\"]\n", i/250, i%250, i/250, i%250)
	}
	return b.String()
}

// problems returns what an error of this package holds.
func problems(t *testing.T, err error) []config.Problem {
	t.Helper()
	var errs *config.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("%T is no *config.Errors: %v", err, err)
	}
	return errs.Problems
}

func mustParse(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse(testPath, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestSchemaHasEveryTagOfTheStructsAndNoOther(t *testing.T) {
	got := map[string][]string{}
	for _, k := range config.Schema() {
		got[k.Table] = append(got[k.Table], k.Name)
	}
	for table, typ := range map[string]reflect.Type{
		"node": reflect.TypeFor[config.Node](), "peer": reflect.TypeFor[config.Peer](),
	} {
		var tags []string
		for field := range typ.Fields() {
			if tag := field.Tag.Get("toml"); tag != "-" {
				tags = append(tags, tag)
			}
		}
		slices.Sort(tags)
		slices.Sort(got[table])
		if !slices.Equal(got[table], tags) {
			t.Errorf("%s: the schema has %v, the struct %v", table, got[table], tags)
		}
	}
}

func TestSchemaDescribesEveryKeyInFull(t *testing.T) {
	classes := []config.Class{config.Live, config.Child, config.Listen, config.Daemon}
	for _, k := range config.Schema() {
		if k.Type == "" || !strings.HasSuffix(k.Doc, ".") || !slices.Contains(classes, k.Class) {
			t.Errorf("%+v is incomplete", k)
		}
		if k.Required && k.Default != "" {
			t.Errorf("%s is required and has a default", k.Name)
		}
	}
}

func TestDefaultsAreThoseOfTheDocumentation(t *testing.T) {
	cfg := mustParse(t, "[node]\nprivate_key_file = \"k\"\nlisten = [\"[::]:7900\"]\n[peer.a]\npublic_key = \""+publicKey("a")+"\"\n")
	key, err := keys.ParsePublicKey(publicKey("a"))
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Path: testPath,
		Node: config.Node{
			PrivateKeyFile: "/etc/tund/k", Reload: config.ReloadAuto, Engine: config.EngineAuto, Sandbox: config.SandboxRequired,
			Listen: []netip.AddrPort{netip.MustParseAddrPort("[::]:7900")},
		},
		Peers: []config.Peer{{
			Name: "a", PublicKey: key, Mode: config.ModeTUN, Interface: "tun-a", Queue: 1000, Offload: config.OffloadAuto,
			RekeyInterval: 2 * time.Minute, Keepalive: 25 * time.Second, KeyLifetime: time.Hour,
			AcceptStayDown: true, Enabled: true,
		}},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
}

func TestErrorTextNamesFileLineKeyAndMessage(t *testing.T) {
	_, err := config.Parse(testPath, []byte("[node]\nprivate_key_file = \"k\"\n[peer.berlin]\npublic_key = \""+publicKey("a")+
		"\"\nendpoints = [\"berlin\"]\n"))
	want := `tund.toml:5: peer.berlin.endpoints: missing port in "berlin"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	text, jsonErr := json.Marshal(problems(t, err))
	wantJSON := `[{"file":"tund.toml","line":5,"key":"peer.berlin.endpoints","message":"missing port in \"berlin\""}]`
	if jsonErr != nil || string(text) != wantJSON {
		t.Errorf("got %s, %v, want %s", text, jsonErr, wantJSON)
	}
}

func TestPeersAreFoundByName(t *testing.T) {
	cfg := mustParse(t, manyPeers(3))
	if p, ok := cfg.Peer("p1"); !ok || p.Name != "p1" {
		t.Errorf("p1: %v, %v", p.Name, ok)
	}
	if _, ok := cfg.Peer("p3"); ok {
		t.Error("found a peer that is not there")
	}
}

func TestRouteCoveringReturnsTheMostSpecificRoute(t *testing.T) {
	cfg := mustParse(t, `
[node]
private_key_file = "k"
listen = ["[::]:7900"]
[peer.a]
public_key = "`+publicKey("a")+`"
routes = ["0.0.0.0/0", "fe80::/10"]
[peer.b]
public_key = "`+publicKey("b")+`"
routes = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"]
`)
	for _, c := range []struct{ addr, peer, route string }{
		{"192.0.2.1", "a", "0.0.0.0/0"},
		{"10.1.2.3", "b", "10.1.0.0/16"},
		{"::ffff:10.2.2.3", "b", "10.0.0.0/8"},
		{"2001:db8::1", "b", "2001:db8::/32"},
		{"fe80::1%eth0", "a", "fe80::/10"},
		{"2001:db9::1", "", ""},
	} {
		peer, route, ok := cfg.RouteCovering(netip.MustParseAddr(c.addr))
		if peer != c.peer || ok != (c.peer != "") || ok && route.String() != c.route {
			t.Errorf("%s: got %s, %v, %v, want %s, %s", c.addr, peer, route, ok, c.peer, c.route)
		}
	}
}

func TestEndpointsAreWrittenAsTheyAreRead(t *testing.T) {
	for _, c := range []struct {
		endpoint config.Endpoint
		text     string
		isAddr   bool
	}{
		{config.Endpoint{Host: "a.example", Port: 1}, "a.example:1", false},
		{config.Endpoint{Host: "192.0.2.1", Port: 7900}, "192.0.2.1:7900", true},
		{config.Endpoint{Host: "2001:db8::1", Port: 7900}, "[2001:db8::1]:7900", true},
	} {
		if got := c.endpoint.String(); got != c.text {
			t.Errorf("got %s, want %s", got, c.text)
		}
		if addr, ok := c.endpoint.Addr(); ok != c.isAddr || ok && addr.String() != c.endpoint.Host {
			t.Errorf("%s: address %v, %v", c.text, addr, ok)
		}
	}
}

func TestDurationsAreWrittenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 10 * time.Second: "10s", 2 * time.Minute: "2m", 90 * time.Second: "1m30s", time.Hour: "1h",
		time.Hour + time.Second: "1h0m1s", time.Hour + 10*time.Minute: "1h10m", 1500 * time.Millisecond: "1.5s",
	} {
		if got := config.DurationText(d); got != want {
			t.Errorf("%v: got %s, want %s", int64(d), got, want)
		}
		if back, err := time.ParseDuration(want); err != nil || back != d {
			t.Errorf("%s is read as %v, %v", want, back, err)
		}
	}
}

func TestNoWayOfPrintingAConfigShowsASecret(t *testing.T) {
	secret := keys.GenerateSecret()
	cfg := mustParse(t, manyPeers(1))
	cfg.Node.PrivateKey = secret
	cfg.Peers[0].PresharedKey = &secret
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "peer", cfg.Peers[0], "reason", cfg, "key", cfg.Node)
	all := string(encoded) + cfg.Text() + logged.String() +
		fmt.Sprintf("%v %+v %#v %v %+v %#v %+v", cfg, cfg, cfg, *cfg, cfg.Node, &cfg.Peers[0], cfg.Peers) + fmt.Sprint(cfg.Node, cfg.Peers[0].PresharedKey)
	var decimal []string
	for _, b := range secret {
		decimal = append(decimal, strconv.Itoa(int(b)))
	}
	for _, form := range []string{
		strings.TrimSpace(string(secret.Encode())), hex.EncodeToString(secret[:]), fmt.Sprintf("%X", secret[:]),
		strings.Join(decimal, " "), strings.Join(decimal, ","),
	} {
		if strings.Contains(all, form) {
			t.Errorf("printed text holds the secret as %.8s", form)
		}
	}
}

func TestLinkLocalEndpointNeedsItsDevice(t *testing.T) {
	for text, ok := range map[string]bool{"[fe80::1]:7900": false, "[fe80::1%eth0]:7900": true, "169.254.0.1:7900": true} {
		if _, err := config.ParseEndpoint(text); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
