package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestUserOfTheServiceIsThatOfItsUnit(t *testing.T) {
	const packaged = "[Unit]\nUser=no\n[Service]\nType=notify\nUser=tund\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no unit":         {nil, ""},
		"the package's":   {map[string]string{"usr/lib/systemd/system/tund.service": packaged}, "tund"},
		"an older layout": {map[string]string{"lib/systemd/system/tund.service": packaged}, "tund"},
		"as root":         {map[string]string{"usr/lib/systemd/system/tund.service": "[Service]\nType=notify\n"}, ""},
		"not readable":    {map[string]string{"usr/lib/systemd/system/tund.service": "[Service\n"}, ""},
		"the administrator's": {map[string]string{
			"usr/lib/systemd/system/tund.service": packaged, "etc/systemd/system/tund.service": "[Service]\nUser=vpn\n",
		}, "vpn"},
		"a drop-in": {map[string]string{
			"usr/lib/systemd/system/tund.service":                 packaged,
			"usr/lib/systemd/system/tund.service.d/10-x.conf":     "[Service]\nUser=a\n",
			"etc/systemd/system/tund.service.d/10-x.conf":         "[Service]\nUser=b\n",
			"run/systemd/system/tund.service.d/05-x.conf":         "[Service]\nUser=c\n",
			"etc/systemd/system/tund.service.d/20-nothing.conf":   "[Service]\nNice=1\n",
			"etc/systemd/system/tund.service.d/30-not.a.conf.bak": "[Service]\nUser=d\n",
		}, "b"},
		"a drop-in that says root": {map[string]string{
			"usr/lib/systemd/system/tund.service":      packaged,
			"etc/systemd/system/tund.service.d/x.conf": "[Service]\nUser=\n",
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range c.files {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := serviceOf(root).user; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A key may be readable by a group that only the unit gives tund.
func TestGroupsOfTheServiceAreThoseOfItsUnit(t *testing.T) {
	const packaged = "[Service]\nUser=tund\nGroup=tund\n"
	for name, c := range map[string]struct {
		dropIn string
		want   service
	}{
		"the package's":   {"", service{user: "tund", group: "tund"}},
		"another group":   {"[Service]\nGroup=vpn\n", service{user: "tund", group: "vpn"}},
		"one group more":  {"[Service]\nSupplementaryGroups=keys\n", service{user: "tund", group: "tund", more: []string{"keys"}}},
		"several":         {"[Service]\nSupplementaryGroups=a b\nSupplementaryGroups=c\n", service{user: "tund", group: "tund", more: []string{"a", "b", "c"}}},
		"and none again":  {"[Service]\nSupplementaryGroups=a\nSupplementaryGroups=\n", service{user: "tund", group: "tund"}},
		"not of the unit": {"[Install]\nGroup=no\n", service{user: "tund", group: "tund"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range map[string]string{"usr/lib/systemd/system/tund.service": packaged, "etc/systemd/system/tund.service.d/x.conf": c.dropIn} {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := serviceOf(root); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestOnlyFilesOfTheServiceAreItsUsers(t *testing.T) {
	for path, want := range map[string]bool{
		"/etc/tund/tund.toml": true, "/etc/tund/keys/x": true, "/etc/tund/../tund/x": true,
		"/etc/tundra/x": false, "/etc/tund/../x": false, "/etc/tund": false, "tund.toml": false,
	} {
		if got := inServiceDir(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
