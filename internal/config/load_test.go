package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/config"
	"tund/internal/keys"
)

// site is a directory with a configuration.
type site struct {
	t   *testing.T
	dir string
}

const nodeTable = "[node]\nprivate_key_file = \"private.key\"\nlisten = [\"[::]:7900\"]\n"

// newSite makes a directory with a private key and a main file of one peer.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.writeSecret("private.key")
	s.write("tund.toml", nodeTable+peerTable("alpha", ""))
	return s
}

// peerTable returns the table of a peer.
func peerTable(name, more string) string {
	return fmt.Sprintf("[peer.%s]\npublic_key = %q\n%s\n", name, publicKey(name), more)
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) writeSecret(name string) keys.Secret {
	s.t.Helper()
	secret := keys.GenerateSecret()
	s.write(name, string(secret.Encode()))
	return secret
}

func (s *site) chmod(name string, mode os.FileMode) {
	s.t.Helper()
	if err := os.Chmod(s.path(name), mode); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) load() *config.Config {
	s.t.Helper()
	cfg, err := config.Load(s.path("tund.toml"))
	if err != nil {
		s.t.Fatal(err)
	}
	return cfg
}

// refused loads and checks that the error text is one line that holds each word.
func (s *site) refused(words ...string) {
	s.t.Helper()
	cfg, err := config.Load(s.path("tund.toml"))
	if cfg != nil || len(problems(s.t, err)) != 1 {
		s.t.Fatalf("got %v", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			s.t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestLoadReadsMainFilePeersAndKeys(t *testing.T) {
	s := newSite(t)
	psk := s.writeSecret("peers.d/beta.psk")
	s.write("peers.d/beta.toml", peerTable("beta", `preshared_key_file = "beta.psk"`))
	s.write("peers.d/.hidden.toml", "broken")
	s.write("peers.d/gamma.toml.dpkg-new", "broken")
	s.write("peers.d/delta.toml~", "broken")
	cfg := s.load()
	if len(cfg.Peers) != 2 || cfg.Peers[0].Name != "alpha" || cfg.Peers[1].Name != "beta" {
		t.Errorf("peers %v", cfg.Peers)
	}
	if cfg.Peers[1].PresharedKey == nil || !cfg.Peers[1].PresharedKey.Equal(&psk) || cfg.Peers[0].PresharedKey != nil {
		t.Error("the pre-shared key is not where it belongs")
	}
	if cfg.Node.PrivateKey.IsZero() || cfg.Path != s.path("tund.toml") {
		t.Errorf("private key or path missing: %s", cfg.Path)
	}
	want := []string{"tund.toml", "peers.d/*.toml", "peers.d/beta.toml", "private.key", "peers.d/beta.psk"}
	for i := range want {
		want[i] = s.path(want[i])
	}
	if !slices.Equal(cfg.Files, want) {
		t.Errorf("files %v, want %v", cfg.Files, want)
	}
}

func TestLoadMakesARelativePathAbsolute(t *testing.T) {
	s := newSite(t)
	t.Chdir(s.dir)
	cfg, err := config.Load("tund.toml")
	if err != nil || cfg.Path != s.path("tund.toml") || cfg.Node.PrivateKeyFile != s.path("private.key") {
		t.Errorf("got %v, %v", cfg, err)
	}
}

func TestLoadReportsAllErrorsOfAllFilesAtOnce(t *testing.T) {
	s := newSite(t)
	s.write("tund.toml", nodeTable+peerTable("alpha", "mtuu = 1\nmtu = 1"))
	s.write("peers.d/a.toml", "[node]\n"+peerTable("alpha", ""))
	s.write("peers.d/b.toml", "x = ")
	s.write("peers.d/c.toml", peerTable("gamma", `endpoints = ["c"]`)+"[peers.delta]\n")
	if err := os.Remove(s.path("private.key")); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(s.path("tund.toml"))
	key := s.path("private.key")
	want := `tund.toml:2: node.private_key_file: ` + key + ` is missing: make it with tunctl genkey --write ` + key + `
tund.toml:6: peer.alpha.mtuu: unknown key "mtuu" (did you mean "mtu"?)
tund.toml:7: peer.alpha.mtu: 1 is not from 576 to 65407
peers.d/a.toml:1: node: only [peer.NAME] tables are allowed in peers.d
peers.d/a.toml:2: peer.alpha: already defined in tund.toml, line 4
peers.d/b.toml:1: unexpected EOF; expected value (column 4)
peers.d/c.toml:3: peer.gamma.endpoints: missing port in "c"
peers.d/c.toml:4: peers: only [peer.NAME] tables are allowed in peers.d`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestErrorsListTheFilesToWatch(t *testing.T) {
	s := newSite(t)
	s.write("tund.toml", nodeTable+peerTable("alpha", `preshared_key_file = "later.psk"`))
	_, err := config.Load(s.path("tund.toml"))
	problems(t, err)
	files := err.(*config.Errors).Files //nolint:errorlint // problems has tested the type
	if !slices.Contains(files, s.path("later.psk")) || !slices.Contains(files, s.path("peers.d/*.toml")) {
		t.Errorf("files %v", files)
	}
}

func TestLoadRefusesFilesThatCannotBeRead(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(s *site)
		words []string
	}{
		{"a main file that is missing", func(s *site) { _ = os.Remove(s.path("tund.toml")) }, []string{"no such file"}},
		{"a main file that is a directory", func(s *site) {
			_ = os.Remove(s.path("tund.toml"))
			s.write("tund.toml/x", "")
		}, []string{"not a regular file"}},
		{"a main file that is too large", func(s *site) {
			s.write("tund.toml", strings.Repeat("#", config.MaxFileSize+1))
		}, []string{"larger than"}},
		{"a file of peers.d that is too large", func(s *site) {
			s.write("peers.d/x.toml", strings.Repeat("#", config.MaxFileSize+1))
		}, []string{"peers.d/x.toml: ", "larger than"}},
		{"a FIFO, without waiting for it", func(s *site) {
			_ = os.Mkdir(s.path("peers.d"), 0o755)
			_ = unix.Mkfifo(s.path("peers.d/x.toml"), 0o600)
		}, []string{"not a regular file"}},
		{"a link to nothing", func(s *site) {
			_ = os.Mkdir(s.path("peers.d"), 0o755)
			_ = os.Symlink("nothing", s.path("peers.d/x.toml"))
		}, []string{"peers.d/x.toml: ", "no such file"}},
		{"a peers.d that is a file", func(s *site) { s.write("peers.d", "") }, []string{"peers.d: ", "not a directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			c.spoil(s)
			s.refused(c.words...)
		})
	}
}

func TestLoadAcceptsAnEmptyPeersDirectoryAndLinks(t *testing.T) {
	s := newSite(t)
	s.write("elsewhere/beta", peerTable("beta", ""))
	s.write("peers.d/readme", "no TOML")
	if err := os.Symlink("../elsewhere/beta", s.path("peers.d/beta.toml")); err != nil {
		t.Fatal(err)
	}
	if cfg := s.load(); len(cfg.Peers) != 2 {
		t.Errorf("peers %v", cfg.Peers)
	}
}

func TestKeyFilesThatOthersMayReadAreRefused(t *testing.T) {
	for _, file := range []string{"private.key", "alpha.psk"} {
		for _, c := range []struct {
			mode os.FileMode
			ok   bool
		}{
			{0o600, true},
			{0o400, true},
			{0o640, true},
			{0o440, true},
			{0o644, false},
			{0o660, false},
			{0o604, false},
			{0o700, false},
			{0o610, false},
			{0o620, false},
			{0o602, false},
			{0o777, false},
		} {
			t.Run(fmt.Sprintf("%s %o", file, c.mode), func(t *testing.T) {
				s := newSite(t)
				s.writeSecret("alpha.psk")
				s.write("tund.toml", nodeTable+peerTable("alpha", `preshared_key_file = "alpha.psk"`))
				s.chmod(file, c.mode)
				if c.ok {
					s.load()
					return
				}
				s.refused(fmt.Sprintf("mode 0%o", c.mode), "chmod 0600 "+s.path(file))
			})
		}
	}
}

func TestKeyFilesWithoutAKeyAreRefusedWithoutShowingThem(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "short": "c2VjcmV0", "zero": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", "two": publicKey("1") + "\n" + publicKey("2"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write("private.key", text)
			s.refused("tund.toml:2: node.private_key_file: ", "does not hold a key as tunctl genkey prints it")
			_, err := config.Load(s.path("tund.toml"))
			if text != "" && strings.Contains(err.Error(), text[:8]) {
				t.Errorf("%v shows the file", err)
			}
		})
	}
}

func TestMissingPresharedKeySaysHowToMakeOne(t *testing.T) {
	s := newSite(t)
	s.write("tund.toml", nodeTable+peerTable("alpha", `preshared_key_file = "alpha.psk"`))
	s.refused("tund.toml:6: peer.alpha.preshared_key_file: ", "tunctl genpsk --write "+s.path("alpha.psk"))
}

// Windows' editors put a mark in front, or write UTF-16; space around a key does no harm.
func TestKeyFilesOfEditorsAreTakenOrNamed(t *testing.T) {
	const key = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
	wide := func(order int) string {
		var b strings.Builder
		for _, c := range []byte(key) {
			b.Write([][]byte{{c, 0}, {0, c}}[order])
		}
		return b.String()
	}
	for name, c := range map[string]struct{ text, words string }{
		"CRLF":                    {key + "\r\n", ""},
		"spaces":                  {" " + key + "  \n\n", ""},
		"a BOM":                   {"\ufeff" + key + "\n", "byte order mark (BOM)"},
		"UTF-16":                  {"\xff\xfe" + wide(0), "is UTF-16"},
		"UTF-16, the other order": {"\xfe\xff" + wide(1), "is UTF-16"},
		"UTF-16 without its mark": {wide(0), "is UTF-16"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write("private.key", c.text)
			if c.words == "" {
				s.load()
				return
			}
			s.refused("tund.toml:2: node.private_key_file: ", c.words)
		})
	}
}

func TestPrivateKeyIsRefusedAsAPresharedKey(t *testing.T) {
	for name, lay := range map[string]func(s *site){
		"the same path": func(s *site) {
			s.write("tund.toml", nodeTable+peerTable("alpha", `preshared_key_file = "private.key"`))
		},
		"a link":      func(s *site) { s.lay("alpha.psk", "private.key") },
		"a hard link": func(s *site) { s.must(os.Link(s.path("private.key"), s.path("alpha.psk"))) },
		"a copy": func(s *site) {
			data, err := os.ReadFile(s.path("private.key"))
			s.must(err)
			s.write("alpha.psk", string(data)+"\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write("tund.toml", nodeTable+peerTable("alpha", `preshared_key_file = "alpha.psk"`))
			lay(s)
			s.refused("tund.toml:6: peer.alpha.preshared_key_file: ", "holds this node's private key")
		})
	}
}

func TestOwnKeyIsRefusedAsAPeer(t *testing.T) {
	s := newSite(t)
	secret := s.writeSecret("private.key")
	own := keys.NewIdentity(&secret).Public()
	s.write("tund.toml", nodeTable+"[peer.me]\npublic_key = \""+own.String()+"\"\n")
	s.refused("tund.toml:5: peer.me.public_key: ", "this node's own key")
}

func TestDigestFollowsEveryContentAndNothingElse(t *testing.T) {
	s := newSite(t)
	s.writeSecret("alpha.psk")
	s.write("tund.toml", nodeTable+peerTable("alpha", `preshared_key_file = "alpha.psk"`))
	last := s.load().Digest
	step := func(name string, changes bool, do func()) {
		t.Helper()
		do()
		now := s.load().Digest
		if (now != last) != changes {
			t.Errorf("%s: changed is %v, want %v", name, now != last, changes)
		}
		last = now
	}
	step("nothing", false, func() {})
	step("a file that is not read", false, func() { s.write("peers.d/x.toml~", "x") })
	step("the same text again", false, func() {
		data, _ := os.ReadFile(s.path("tund.toml"))
		s.write("tund.toml", string(data))
	})
	step("a mode", false, func() { s.chmod("private.key", 0o640) })
	step("the private key", true, func() { s.chmod("private.key", 0o600); s.writeSecret("private.key") })
	step("a pre-shared key", true, func() { s.writeSecret("alpha.psk") })
	step("a new peer", true, func() { s.write("peers.d/beta.toml", peerTable("beta", "")) })
	step("a comment", true, func() { s.write("peers.d/beta.toml", peerTable("beta", "# x")) })
	step("a peer less", true, func() { _ = os.Remove(s.path("peers.d/beta.toml")) })
}
