package config_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"tund/internal/config"
)

func TestSettingsHaveOldAndNewValueOfEachKey(t *testing.T) {
	for _, k := range config.Schema() {
		if k.Table != "peer" {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			old := parsePeer(t, needs[k.Name])
			next := parsePeer(t, needs[k.Name]+k.Name+" = "+otherValue[k.Name]+"\n")
			d := config.Diff(old, next)
			got := config.Settings(&old.Peers[0], &next.Peers[0], d.Peers[0].Keys)
			if len(got) != 1 || got[0].Key != k.Name || got[0].From == got[0].To || got[0].Content {
				t.Fatalf("%+v", got)
			}
			if want := otherValue[k.Name]; k.Name != "preshared_key_file" && got[0].To != want {
				t.Errorf("to %s, want %s", got[0].To, want)
			}
			if want := k.Default; want != "" && got[0].From != want {
				t.Errorf("from %s, want %s", got[0].From, want)
			}
		})
	}
}

func TestSettingsOfANodeAndNoOthers(t *testing.T) {
	old, next := mustParse(t, nodeTable), mustParse(t, nodeTable+"reload = \"manual\"\n")
	got := config.NodeSettings(&old.Node, &next.Node, []string{"reload", "mtu"})
	if fmt.Sprint(got) != `[{reload "auto" "manual" false}]` {
		t.Errorf("%v", got)
	}
	if got := config.Settings(&config.Peer{}, &config.Peer{}, []string{"engine"}); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestSettingsOfASecretSayOnlyThatItHasChanged(t *testing.T) {
	s := newSite(t)
	s.write("tund.toml", nodeTable+peerTable("alpha", "preshared_key_file = \"a.psk\"\n"))
	s.writeSecret("a.psk")
	old := s.load()
	s.writeSecret("a.psk")
	next := s.load()
	d := config.Diff(old, next)
	got := config.Settings(&old.Peers[0], &next.Peers[0], d.Peers[0].Keys)
	want := `"` + s.dir + `/a.psk"`
	if len(got) != 1 || !got[0].Content || got[0].From != want || got[0].To != want {
		t.Errorf("%+v", got)
	}
}

func TestLongSettingsShowWhereTheyDiffer(t *testing.T) {
	many := func(n int, last string) *config.Peer {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("%q", fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)))
		}
		return &parsePeer(t, "routes = ["+strings.Join(append(list, last), ", ")+"]\n").Peers[0]
	}
	for _, n := range []int{0, 3, 500} {
		got := config.Settings(many(n, `"10.77.1.0/24"`), many(n, `"10.77.2.0/24"`), []string{"routes"})[0]
		if !strings.Contains(got.From, "10.77.1.0/24") || !strings.Contains(got.To, "10.77.2.0/24") || len(got.From)+len(got.To) > 600 {
			t.Errorf("%d: %+v", n, got)
		}
	}
	wide := strings.Repeat("ä", 400)
	for i := range 10 {
		from := &config.Peer{PresharedKeyFile: "/" + strings.Repeat("x", i) + wide}
		got := config.Settings(from, &config.Peer{PresharedKeyFile: from.PresharedKeyFile + "ö"}, []string{"preshared_key_file"})[0]
		if !utf8.ValidString(got.From) || !utf8.ValidString(got.To) || !strings.Contains(got.To, "ö") {
			t.Errorf("%+v", got)
		}
	}
}
