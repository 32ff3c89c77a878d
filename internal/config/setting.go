package config

import (
	"slices"
	"unicode/utf8"
)

// Setting is one key whose value differs between two configurations. It holds no secret.
type Setting struct {
	Key      string
	From, To string // in TOML, what differs of long ones; "": not given
	Content  bool   // both name the same file, and that has another content
}

// Settings returns the named keys of a peer with their old and new values. A key that is
// no peer's is left out.
func Settings(old, next *Peer, keys []string) []Setting {
	return settings(peerFields, old, next, keys)
}

// NodeSettings is Settings for the table [node].
func NodeSettings(old, next *Node, keys []string) []Setting {
	return settings(nodeFields, old, next, keys)
}

func settings[T any](fields []field[T], old, next *T, keys []string) []Setting {
	var all []Setting
	for _, f := range fields {
		if !slices.Contains(keys, f.Name) {
			continue
		}
		s := Setting{Key: f.Name}
		from, to := f.get(old), f.get(next)
		s.Content = from == to
		s.From, s.To = excerpts(from, to)
		all = append(all, s)
	}
	return all
}

// longestValue is how much of a value is shown, in bytes.
const longestValue = 240

// excerpts shortens two values to where they begin to differ.
func excerpts(from, to string) (string, string) {
	if len(from) <= longestValue && len(to) <= longestValue {
		return from, to
	}
	const before = 40 // of what is the same
	same := 0
	for same < min(len(from), len(to)) && from[same] == to[same] {
		same++
	}
	start := max(0, same-before)
	return excerpt(from, start), excerpt(to, start)
}

// excerpt is the part of text that begins at about start and has the longest length.
func excerpt(text string, start int) string {
	for start > 0 && !utf8.RuneStart(text[start]) {
		start--
	}
	end := min(len(text), start+longestValue)
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	short := text[start:end]
	if start > 0 {
		short = "..." + short
	}
	if end < len(text) {
		short += "..."
	}
	return short
}
