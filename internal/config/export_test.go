package config

import "github.com/BurntSushi/toml"

// KeysAndLines returns the library's keys of a text and where locate finds them; ok is
// false for a text that is not TOML.
func KeysAndLines(data []byte) (keys []toml.Key, lines map[string]int, ok bool) {
	d := &document{name: "test"}
	ok = d.decode(data, &collector{})
	return d.keys, d.lines, ok
}

// DurationText is durationText.
var DurationText = durationText
