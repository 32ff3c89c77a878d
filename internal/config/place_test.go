package config_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"tund/internal/config"
)

// somebody is a user that nobody trusts.
const somebody = 54321

func TestKeyFilesThatOthersMayReplaceAreRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	for name, c := range map[string]struct {
		spoil func(s *site)
		words string // "": it is good
	}{
		"as it is":                    {func(*site) {}, ""},
		"another owner":               {func(s *site) { s.disown("private.key") }, "private.key belongs to user 54321"},
		"a directory of another user": {func(s *site) { s.disown(".") }, "belongs to user 54321, who can replace"},
		"a directory that all may write to": {
			func(s *site) { s.chmod(".", 0o777) }, "others may write to the directory",
		},
		"a directory that some group may write to": {
			func(s *site) { s.chgrp(".", somebody); s.chmod(".", 0o775) }, "others may write to the directory",
		},
		"a directory that root's group may write to": {func(s *site) { s.chmod(".", 0o775) }, ""},
		"a directory as /tmp":                        {func(s *site) { s.chmod(".", os.ModeSticky|0o777) }, ""},
		"another owner in a directory as /tmp": {
			func(s *site) { s.chmod(".", os.ModeSticky|0o777); s.disown("private.key") }, "private.key belongs to user 54321",
		},
		"a directory above that all may write to": {
			func(s *site) { s.move("a/b/c"); s.chmod("a", 0o777) }, "a (mode 0777)",
		},
		"a link within its directory":  {func(s *site) { s.link("a.key", "a.key") }, ""},
		"a link into a good directory": {func(s *site) { s.write("a/x", ""); s.link("a/key", "a/key") }, ""},
		"a link into a directory that all may write to": {
			func(s *site) { s.write("a/x", ""); s.chmod("a", 0o777); s.link("a/key", "a/key") }, "a (mode 0777)",
		},
		"a link to a link there": {
			func(s *site) {
				s.write("a/x", "")
				s.chmod("a", 0o777)
				s.link("b.key", "b.key")
				s.lay("a/l", "../b.key")
				s.lay("private.key", "a/l")
			},
			"a (mode 0777)",
		},
		"an absolute link": {
			func(s *site) { s.write("a/x", ""); s.chmod("a", 0o777); s.link("a/key", s.path("a/key")) }, "a (mode 0777)",
		},
		"a link that leads back from a bad directory": {
			func(s *site) { s.write("a/b/x", ""); s.chmod("a", 0o777); s.link("b.key", "a/b/../../b.key") }, "a (mode 0777)",
		},
		"another's link": {
			func(s *site) {
				s.chmod(".", os.ModeSticky|0o777)
				s.link("b.key", "b.key")
				s.lchown("private.key", somebody)
			},
			"private.key belongs to user 54321",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			c.spoil(s)
			if c.words == "" {
				s.load()
				return
			}
			s.refused("tund.toml:2: node.private_key_file: ", c.words)
		})
	}
}

func TestUserOfTheServiceIsTrustedToo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	s := newSite(t)
	s.disown("private.key")
	if _, err := config.LoadWith(s.path("tund.toml"), config.Options{User: somebody}); err != nil {
		t.Error(err)
	}
	if _, err := config.ReadPublicKey(s.path("tund.toml"), somebody); err != nil {
		t.Error(err)
	}
	if _, err := config.LoadWith(s.path("tund.toml"), config.Options{User: somebody + 1}); err == nil {
		t.Error("another user's key is taken")
	}
}

// A file that is to be made must not be made where others could replace it.
func TestPlaceOfAFileThatIsMissingIsChecked(t *testing.T) {
	s := newSite(t)
	if err := config.CheckPlace(s.path("new.key"), os.Geteuid()); err != nil {
		t.Error(err)
	}
	s.chmod(".", os.ModeSticky|0o777)
	err := config.CheckPlace(s.path("new.key"), os.Geteuid())
	if err == nil {
		t.Fatal("anybody can make the file first")
	}
	if strings.Contains(err.Error(), "chmod") {
		t.Errorf("nobody should change the mode of such a directory: %v", err)
	}
}

func TestCircleOfLinksAsAKeyFileIsRefused(t *testing.T) {
	s := newSite(t)
	s.remove("private.key")
	s.lay("private.key", "other.key")
	s.lay("other.key", "private.key")
	s.refused("node.private_key_file: ")
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) disown(name string)          { s.must(os.Chown(s.path(name), somebody, -1)) }
func (s *site) lchown(name string, uid int) { s.must(os.Lchown(s.path(name), uid, -1)) }
func (s *site) chgrp(name string, gid int)  { s.must(os.Chown(s.path(name), -1, gid)) }
func (s *site) remove(name string)          { s.must(os.Remove(s.path(name))) }

// lay makes a link in place of what is there.
func (s *site) lay(name, target string) {
	s.t.Helper()
	_ = os.Remove(s.path(name))
	s.must(os.Symlink(target, s.path(name)))
}

// link moves the private key away and makes a link to it.
func (s *site) link(to, target string) {
	s.t.Helper()
	s.must(os.Rename(s.path("private.key"), s.path(to)))
	s.lay("private.key", target)
}

// move moves the private key into a directory of its own, which the configuration names.
func (s *site) move(dir string) {
	s.t.Helper()
	s.must(os.MkdirAll(s.path(dir), 0o755))
	s.must(os.Rename(s.path("private.key"), s.path(dir+"/private.key")))
	s.write("tund.toml", strings.Replace(nodeTable, `"private.key"`, `"`+dir+`/private.key"`, 1))
}

// The package's key belongs to the user tund, and in a container root may run tund with it.
func TestRootTrustsTheUserTund(t *testing.T) {
	if !config.RootTrusts(somebody, strconv.Itoa(somebody)) || !config.RootTrusts(0, "") {
		t.Error("the key of the package is refused")
	}
	if config.RootTrusts(somebody, "") || config.RootTrusts(somebody, strconv.Itoa(somebody+1)) {
		t.Error("somebody else's key is taken")
	}
}
