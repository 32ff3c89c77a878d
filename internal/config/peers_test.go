package config_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"tund/internal/config"
	"tund/internal/keys"
)

func TestParsePeersChecksAFileByItself(t *testing.T) {
	peers, err := config.ParsePeers("new.toml", "/etc/tund/peers.d", []byte(peerTable("beta", `preshared_key_file = "../beta.psk"`)))
	if err != nil || len(peers) != 1 || peers[0].PresharedKeyFile != "/etc/tund/beta.psk" || peers[0].Interface != "tun-beta" {
		t.Errorf("got %+v, %v", peers, err)
	}
	for text, want := range map[string]string{
		peerTable("beta", "mtu = 70"): "new.toml:3: peer.beta.mtu: 70 is not from 576 to 65407",
		nodeTable:                     "new.toml:1: node: only [peer.NAME] tables are allowed in peers.d",
		peerTable("beta", "addresses = [\"10.0.0.1/24\"]\nendpoints = [\"10.0.0.2:1\"]"): "new.toml:4: peer.beta.endpoints: " +
			"10.0.0.2:1 lies in 10.0.0.0/24, inside this tunnel: it would swallow itself",
	} {
		if peers, err := config.ParsePeers("new.toml", "/etc/tund/peers.d", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("got %v, %v; want %s", peers, err, want)
		}
	}
}

func TestTextOfAPeerGivesWhatIsNotADefault(t *testing.T) {
	p := config.DefaultPeer()
	p.Name, p.MTU, p.Enabled = "site.a", 1400, false
	p.PublicKey, _ = keys.ParsePublicKey(publicKey("beta"))
	const want = "[peer.\"site.a\"]\npublic_key = \"%\"\nmtu = 1400\nenabled = false\n"
	if got := p.Text(); got != strings.ReplaceAll(want, "%", p.PublicKey.String()) {
		t.Errorf("got\n%s", got)
	}
}

func TestLoadWithSeesFilesThatAreNotThereYet(t *testing.T) {
	s := newSite(t)
	s.write("peers.d/gamma.toml", peerTable("gamma", ""))
	s.write("peers.d/beta.toml", "broken")
	psk := keys.GenerateSecret()
	files := map[string][]byte{
		config.PeerFile(s.path("tund.toml"), "beta"): []byte(peerTable("beta", `preshared_key_file = "../beta.psk"`)),
		s.path("peers.d/delta.toml"):                 []byte(peerTable("delta", "")),
		s.path("peers.d/.hidden.toml"):               []byte("broken"),
		s.path("beta.psk"):                           psk.Encode(),
		s.path("peers.d/deeper/x.toml"):              []byte("broken"),
	}
	cfg, err := config.LoadWith(s.path("tund.toml"), config.Options{User: os.Geteuid(), Files: files})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range cfg.Peers {
		names = append(names, p.Name)
	}
	if want := []string{"alpha", "beta", "delta", "gamma"}; !reflect.DeepEqual(names, want) || !cfg.Peers[1].PresharedKey.Equal(&psk) {
		t.Errorf("peers %v, want %v", names, want)
	}
	if _, err := keys.ParseSecret(files[s.path("beta.psk")]); err != nil {
		t.Errorf("the caller's key was overwritten: %v", err)
	}
	// The same once more, from real files.
	for name, data := range files {
		s.write(strings.TrimPrefix(name, s.dir), string(data))
	}
	if again := s.load(); !reflect.DeepEqual(again, cfg) {
		t.Errorf("loaded as\n%s\nwant\n%s", again.Text(), cfg.Text())
	}
}

func TestLoadWithFindsClashesWithWhatIsThere(t *testing.T) {
	s := newSite(t)
	_, err := config.LoadWith(s.path("tund.toml"), config.Options{
		User: os.Geteuid(), Files: map[string][]byte{s.path("peers.d/x.toml"): []byte(peerTable("alpha", ""))},
	})
	if err == nil || !strings.Contains(err.Error(), "peers.d/x.toml:1: peer.alpha: already defined in tund.toml, line 4") {
		t.Errorf("got %v", err)
	}
}

func TestReadPublicKeyNeedsNothingButTheKey(t *testing.T) {
	s := newSite(t)
	secret := s.writeSecret("private.key")
	want := keys.NewIdentity(&secret).Public()
	s.write("tund.toml", nodeTable+peerTable("alpha", "mttu = 3"))
	if got, err := config.ReadPublicKey(s.path("tund.toml"), os.Geteuid()); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	s.chmod("private.key", 0o644)
	if _, err := config.ReadPublicKey(s.path("tund.toml"), os.Geteuid()); err == nil || !strings.Contains(err.Error(), "mode") {
		t.Errorf("an open file: %v", err)
	}
	for _, text := range []string{"[node]\n", "[node", "[node]\nprivate_key_file = \"none\"\n", "private_key_file = \"private.key\"\n"} {
		s.write("tund.toml", text)
		if key, err := config.ReadPublicKey(s.path("tund.toml"), os.Geteuid()); err == nil || len(problems(t, err)) == 0 {
			t.Errorf("%q gives %v", text, key)
		}
	}
	if _, err := config.ReadPublicKey(s.path("other.toml"), os.Geteuid()); err == nil {
		t.Error("no main file is no error")
	}
}

func TestWipedConfigurationHoldsNoSecret(t *testing.T) {
	s := newSite(t)
	s.writeSecret("alpha.psk")
	s.write("tund.toml", nodeTable+peerTable("alpha", `preshared_key_file = "alpha.psk"`))
	cfg := s.load()
	cfg.Wipe()
	if !cfg.Node.PrivateKey.IsZero() || !cfg.Peers[0].PresharedKey.IsZero() {
		t.Error("a secret is still there")
	}
}
