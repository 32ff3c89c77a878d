package config

import (
	"os/user"

	"github.com/BurntSushi/toml"
)

// KeysAndLines returns the library's keys of a text and where locate finds them; ok is
// false for a text that is not TOML.
func KeysAndLines(data []byte) (keys []toml.Key, lines map[string]int, ok bool) {
	d := &document{name: "test"}
	ok = d.decode(data, &collector{})
	return d.keys, d.lines, ok
}

// DurationText is durationText.
var DurationText = durationText

// RootTrusts says whether root's tund trusts a file of this user, where the user tund has the id.
func RootTrusts(uid uint32, id string) bool {
	return newOwners(0, func(name string) (*user.User, error) {
		if name != "tund" || id == "" {
			return nil, user.UnknownUserError(name)
		}
		return &user.User{Uid: id}, nil
	}).trusted(uid)
}
