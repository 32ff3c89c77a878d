package config_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tund/internal/config"
)

// otherValue has for every key of a peer a value that is not its default.
var otherValue = map[string]string{
	"public_key": `"` + publicKey("other") + `"`, "endpoints": `["x:1"]`, "mode": `"tap"`, "interface": `"x"`,
	"addresses": `["10.0.0.1/24"]`, "peer_address": `"10.0.0.2"`, "routes": `["10.1.0.0/16"]`,
	"allowed_ips": `["10.0.0.0/8"]`, "bridge": `"br0"`, "mtu": `1400`, "queue": `500`, "offload": `"off"`,
	"preshared_key_file": `"x.psk"`, "rekey_interval": `"3m"`, "keepalive": `"10s"`, "key_lifetime": `"2h"`,
	"accept_stay_down": `false`, "enabled": `false`,
}

// needs is what a key's value of otherValue cannot be without, in both versions.
var needs = map[string]string{
	"peer_address": "addresses = [\"10.0.0.1/24\"]\n", "bridge": "mode = \"tap\"\n", "mode": "interface = \"y\"\n",
}

func parsePeer(t *testing.T, lines string) *config.Config {
	t.Helper()
	key := "public_key = \"" + publicKey("alpha") + "\"\n"
	if strings.Contains(lines, "public_key") {
		key = ""
	}
	return mustParse(t, nodeTable+"[peer.alpha]\n"+key+lines)
}

func TestEachChangedKeyIsReportedWithTheActionOfItsClass(t *testing.T) {
	for _, k := range config.Schema() {
		if k.Table != "peer" {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			action := map[config.Class]config.Action{config.Live: config.ActionLive, config.Child: config.ActionChild}[k.Class]
			old := parsePeer(t, needs[k.Name])
			next := parsePeer(t, needs[k.Name]+k.Name+" = "+otherValue[k.Name]+"\n")
			want := config.Difference{Peers: []config.Change{{Name: "alpha", Action: action, Keys: []string{k.Name}}}}
			for _, got := range []config.Difference{config.Diff(old, next), config.Diff(next, old)} {
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if !got.Changed() {
					t.Error("no change seen")
				}
			}
		})
	}
}

func TestClassesAreThoseThatThePeersRelyOn(t *testing.T) {
	var child, listen []string
	for _, k := range config.Schema() {
		switch k.Class {
		case config.Child:
			child = append(child, k.Name)
		case config.Listen:
			listen = append(listen, k.Name)
		case config.Daemon:
			t.Errorf("%s needs a restart", k.Name)
		case config.Live:
		}
	}
	if want := []string{"engine", "sandbox", "public_key", "mode", "interface", "bridge", "queue", "offload"}; !slices.Equal(child, want) {
		t.Errorf("class child: %v, want %v", child, want)
	}
	if !slices.Equal(listen, []string{"listen"}) {
		t.Errorf("class listen: %v", listen)
	}
}

func TestAnotherEngineOrSandboxNeedsEveryChildAnew(t *testing.T) {
	peers := peerTable("a", "") + peerTable("b", "mtu = 1400\n")
	old := mustParse(t, nodeTable+peers)
	next := mustParse(t, nodeTable+"engine = \"go\"\nsandbox = \"best-effort\"\n"+peers)
	both := []string{"engine", "sandbox"}
	want := config.Difference{Node: both, Peers: []config.Change{
		{Name: "a", Action: config.ActionChild, Keys: both},
		{Name: "b", Action: config.ActionChild, Keys: both},
	}}
	if got := config.Diff(old, next); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestOneKeyOfClassChildOutweighsLiveOnes(t *testing.T) {
	d := config.Diff(parsePeer(t, ""), parsePeer(t, "endpoints = [\"x:1\"]\nqueue = 16\nmtu = 1400\n"))
	want := []config.Change{{Name: "alpha", Action: config.ActionChild, Keys: []string{"endpoints", "mtu", "queue"}}}
	if !reflect.DeepEqual(d.Peers, want) {
		t.Errorf("got %+v", d.Peers)
	}
}

func TestEqualConfigurationsDoNotDiffer(t *testing.T) {
	old, next := mustParse(t, manyPeers(3)), mustParse(t, manyPeers(3))
	d := config.Diff(old, next)
	if d.Changed() || len(d.Peers) != 3 {
		t.Errorf("got %+v", d)
	}
}

func TestPeersAreAddedAndRemovedByName(t *testing.T) {
	text := func(names ...string) *config.Config {
		var b strings.Builder
		b.WriteString(nodeTable)
		for _, n := range names {
			b.WriteString(peerTable(n, ""))
		}
		return mustParse(t, b.String())
	}
	d := config.Diff(text("b", "c", "e"), text("a", "c", "d"))
	want := []config.Change{
		{Name: "a", Action: config.ActionAdded},
		{Name: "b", Action: config.ActionRemoved},
		{Name: "c", Action: config.ActionUnchanged},
		{Name: "d", Action: config.ActionAdded},
		{Name: "e", Action: config.ActionRemoved},
	}
	if !reflect.DeepEqual(d.Peers, want) || !d.Changed() {
		t.Errorf("got %+v", d.Peers)
	}
}

func TestNodeKeysAreReported(t *testing.T) {
	base := "[node]\nprivate_key_file = \"k\"\n"
	for line, want := range map[string]config.Difference{
		"listen = [\"[::]:1\"]":          {Listen: true, Node: []string{"listen"}},
		"reload = \"manual\"":            {Node: []string{"reload"}},
		"aead = [\"chacha20-poly1305\"]": {Node: []string{"aead"}},
	} {
		got := config.Diff(mustParse(t, base), mustParse(t, base+line))
		if !reflect.DeepEqual(got, want) || !got.Changed() {
			t.Errorf("%s: got %+v, want %+v", line, got, want)
		}
	}
}

func TestContentOfKeyFilesIsCompared(t *testing.T) {
	s := newSite(t)
	s.writeSecret("alpha.psk")
	withPSK := nodeTable + peerTable("alpha", `preshared_key_file = "alpha.psk"`)
	s.write("tund.toml", withPSK)
	old := s.load()
	s.writeSecret("alpha.psk")
	d := config.Diff(old, s.load())
	want := config.Difference{Peers: []config.Change{{Name: "alpha", Action: config.ActionLive, Keys: []string{"preshared_key_file"}}}}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("another pre-shared key: got %+v", d)
	}
	old = s.load()
	s.writeSecret("private.key")
	d = config.Diff(old, s.load())
	if !d.Identity || !slices.Equal(d.Node, []string{"private_key_file"}) || d.Peers[0].Action != config.ActionUnchanged {
		t.Errorf("another private key: got %+v", d)
	}
	old = s.load()
	if err := os.Rename(s.path("private.key"), s.path("moved.key")); err != nil {
		t.Fatal(err)
	}
	s.write("tund.toml", strings.Replace(withPSK, "private.key", "moved.key", 1))
	d = config.Diff(old, s.load())
	if d.Identity || !slices.Equal(d.Node, []string{"private_key_file"}) {
		t.Errorf("a private key that moved: got %+v", d)
	}
}

// A file that is cut off loses a peer, or keys that are at their defaults then.
func TestLostNamesWhatAFileThatWasCutOffLacks(t *testing.T) {
	for _, k := range config.Schema() {
		if k.Table != "peer" || k.Required {
			continue
		}
		without := parsePeer(t, needs[k.Name])
		with := parsePeer(t, needs[k.Name]+k.Name+" = "+otherValue[k.Name]+"\n")
		if got, want := config.Lost(with, without), "peer.alpha."+k.Name; got != want {
			t.Errorf("without %s: lost %q, want %q", k.Name, got, want)
		}
		if got := config.Lost(without, with); got != "" {
			t.Errorf("with %s: lost %q", k.Name, got)
		}
	}
	one, none := parsePeer(t, ""), mustParse(t, nodeTable)
	if got := config.Lost(one, none); got != "peer alpha" {
		t.Errorf("without the peer: lost %q", got)
	}
	if got := config.Lost(none, one); got != "" {
		t.Errorf("with the peer: lost %q", got)
	}
	quiet := mustParse(t, "[node]\nprivate_key_file = \"k\"\n")
	listening := mustParse(t, "[node]\nprivate_key_file = \"k\"\nlisten = [\"192.0.2.1:7900\"]\n")
	if got := config.Lost(listening, quiet); got != "node.listen" {
		t.Errorf("without listen: lost %q", got)
	}
}
