package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Text returns the configuration in force, with all defaults, as one TOML file that
// would be read as an equal Config. It shows the paths of key files, never a secret.
func (c *Config) Text() string {
	var b strings.Builder
	b.WriteString("[node]\n")
	writeFields(&b, nodeFields, &c.Node)
	for i := range c.Peers {
		fmt.Fprintf(&b, "\n[%s]\n", toml.Key{tablePeer, c.Peers[i].Name})
		writeFields(&b, peerFields, &c.Peers[i])
	}
	return b.String()
}

// Text returns the peer's table with the keys that have other values than their
// defaults. An interface or a key file is not given where its field is empty.
func (p *Peer) Text() string {
	usual := DefaultPeer()
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\n", toml.Key{tablePeer, p.Name})
	for _, f := range peerFields {
		if text := f.get(p); text != f.get(&usual) {
			fmt.Fprintf(&b, "%s = %s\n", f.Name, text)
		}
	}
	return b.String()
}

// Changed returns the keys that have other values than their defaults, in the order of
// the schema.
func (p *Peer) Changed() []string {
	usual := DefaultPeer()
	usual.Interface = defaultInterface(p)
	var all []string
	for _, f := range peerFields {
		if text := f.get(p); text != f.get(&usual) && text != "" {
			all = append(all, f.Name)
		}
	}
	return all
}

// DefaultPeer returns a peer whose keys have their defaults. It has no name and no
// public key.
func DefaultPeer() Peer {
	var p Peer
	fill(&document{}, nil, nil, defaultValues(peerFields), peerFields, &p, &collector{})
	return p
}

func writeFields[T any](b *strings.Builder, fields []field[T], src *T) {
	for _, f := range fields {
		if text := f.get(src); text != "" {
			fmt.Fprintf(b, "%s = %s\n", f.Name, text)
		}
	}
}

// quote returns a TOML string. No accepted text holds control characters.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// quoteSet is quote, but "" for "".
func quoteSet(text string) string {
	if text == "" {
		return ""
	}
	return quote(text)
}

// quoteList returns a TOML list of strings.
func quoteList[E fmt.Stringer](elements []E) string {
	quoted := make([]string, len(elements))
	for i, e := range elements {
		quoted[i] = quote(e.String())
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// durationText is Duration.String without the zeros at the end: "2m", not "2m0s".
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
