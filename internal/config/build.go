package config

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// peerName is what the name of a peer may look like: it appears in commands, logs,
// process names and names of devices.
var peerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// Parse reads one main file's text without touching the file system: key files are
// not read and peers.d is not looked at. The path names the file in messages, and its
// directory is where relative paths begin. The error is an *Errors.
func Parse(path string, data []byte) (*Config, error) {
	b := &builder{}
	b.read(filepath.Base(path), path, data)
	cfg := b.build()
	if err := b.errs.err(b.docs, nil); err != nil {
		return nil, err
	}
	return cfg, nil
}

// ParsePeers reads a text that is meant for a file of peers.d, in the directory dir
// where relative paths begin, and checks it as far as that can be done without the rest
// of the configuration; the peers are sorted by name. Messages call it name. Key files
// are not read. The error is an *Errors.
func ParsePeers(name, dir string, data []byte) ([]Peer, error) {
	b := &builder{docs: []*document{{}}} // a main file of which nothing is known
	b.read(name, filepath.Join(dir, "new.toml"), data)
	cfg := b.build()
	if err := b.errs.err(b.docs, nil); err != nil {
		return nil, err
	}
	return cfg.Peers, nil
}

// ValidName says whether a peer may have this name.
func ValidName(name string) bool { return peerName.MatchString(name) }

// builder makes a Config of documents. The first document is the main file.
type builder struct {
	docs   []*document
	errs   collector
	origin map[string]*document // where each peer is defined
}

// read decodes one file; all but the first may define peers only.
func (b *builder) read(name, path string, data []byte) {
	d := &document{name: name, path: path, peers: len(b.docs) > 0}
	b.docs = append(b.docs, d)
	if d.decode(data, &b.errs) {
		b.checkKeys(d)
	}
}

// build fills a Config and checks it; problems are in b.errs.
func (b *builder) build() *Config {
	cfg := &Config{}
	b.origin = make(map[string]*document)
	main := b.docs[0]
	cfg.Path = main.path
	if table, ok := nodeTable(main); ok {
		fill(main, toml.Key{tableNode}, table, defaultValues(nodeFields), nodeFields, &cfg.Node, &b.errs)
	}
	defaults := defaultValues(peerFields)
	for _, d := range b.docs {
		tables, _ := d.tree[tablePeer].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(tables)) {
			if table, ok := tables[name].(map[string]any); ok && b.claim(d, name) {
				peer := Peer{Name: name}
				fill(d, toml.Key{tablePeer, name}, table, defaults, peerFields, &peer, &b.errs)
				cfg.Peers = append(cfg.Peers, peer)
			}
		}
	}
	slices.SortFunc(cfg.Peers, func(x, y Peer) int { return strings.Compare(x.Name, y.Name) })
	(&checker{cfg: cfg, b: b}).check()
	return cfg
}

// nodeTable returns [node], which is empty where it is missing. It returns false where
// something else has its place, or the file could not be read.
func nodeTable(main *document) (map[string]any, bool) {
	raw, given := main.tree[tableNode]
	table, ok := raw.(map[string]any)
	return table, ok || main.tree != nil && !given
}

// claim checks a peer's name and that no earlier file has defined it.
func (b *builder) claim(d *document, name string) bool {
	key := toml.Key{tablePeer, name}
	if !peerName.MatchString(name) {
		b.errs.add(d, 0, key, "a peer's name is 1 to 32 letters, digits, dots, hyphens or underscores, "+
			"and begins with a letter or digit")
	}
	if first := b.origin[name]; first != nil {
		b.errs.add(d, 0, key, "already defined in %s, line %d", first.name, first.lines[key.String()])
		return false
	}
	b.origin[name] = d
	return true
}

// fill reads each field from the table, or its default.
func fill[T any](d *document, at toml.Key, table, defaults map[string]any, fields []field[T], dst *T, errs *collector) {
	for _, f := range fields {
		v := value{doc: d, key: append(slices.Clip(at), f.Name), errs: errs}
		var given bool
		if v.raw, given = table[f.Name]; !given {
			v.raw = defaults[f.Name]
		}
		switch {
		case v.raw != nil:
			f.set(v, dst)
		case f.Required:
			errs.add(d, d.lines[at.String()], v.key, "missing")
		}
	}
}

// defaultValues decodes the defaults of fields.
func defaultValues[T any](fields []field[T]) map[string]any {
	var text strings.Builder
	for _, f := range fields {
		if f.Default != "" {
			text.WriteString(f.Name + " = " + f.Default + "\n")
		}
	}
	defaults := make(map[string]any)
	if _, err := decodeTree(text.String(), &defaults); err != nil {
		panic("config: internal error: defaults: " + err.Error())
	}
	return defaults
}

// checkKeys refuses every key that is not in the schema, spelled exactly so.
func (b *builder) checkKeys(d *document) {
	seen := make(map[string]bool)
	for _, key := range d.keys {
		depth, message := checkKey(d, key)
		if message == "" || seen[key[:depth].String()] {
			continue
		}
		seen[key[:depth].String()] = true
		b.errs.add(d, 0, key[:depth], "%s", message)
	}
}

// checkKey returns what is wrong with a key, and with how many of its parts.
func checkKey(d *document, key toml.Key) (depth int, message string) {
	raw, _ := d.lookup(key[:1])
	_, isTable := raw.(map[string]any)
	switch {
	case d.peers && key[0] != tablePeer:
		return 1, "only [peer.NAME] tables are allowed in peers.d"
	case key[0] == tableNode && !isTable:
		return 1, "must be a table: write [node]"
	case key[0] == tablePeer && !isTable:
		return 1, "must hold one table for each peer: write [peer.NAME]"
	case key[0] == tableNode:
		return checkField(d, key, 1, names(nodeFields), names(peerFields), "[peer.NAME]")
	case key[0] == tablePeer:
		return checkPeerKey(d, key)
	}
	return 1, "unknown key " + quoted(key[0]) + suggestion(key[0], []string{tableNode, tablePeer})
}

func checkPeerKey(d *document, key toml.Key) (depth int, message string) {
	if len(key) == 1 {
		return 1, ""
	}
	if raw, _ := d.lookup(key[:2]); typeName(raw) != "a table" {
		return 2, "must be a table: write [peer.NAME]"
	}
	return checkField(d, key, 2, names(peerFields), names(nodeFields), "[node]")
}

// checkField checks the part of key at index at, which is the name of a field.
func checkField(d *document, key toml.Key, at int, known, elsewhere []string, other string) (depth int, message string) {
	if len(key) <= at {
		return at, ""
	}
	name := key[at]
	if !slices.Contains(known, name) {
		hint := suggestion(name, known)
		if slices.Contains(elsewhere, name) {
			hint = " (it belongs into " + other + ")"
		}
		return at + 1, "unknown key " + quoted(name) + hint
	}
	// Where a table is the whole value, the field refuses it. This is a table within a
	// list, or one whose place the library has let a list take, without a word.
	if raw, _ := d.lookup(key[:at+1]); len(key) > at+1 && typeName(raw) != "a table" {
		return at + 1, "must not hold a table"
	}
	return at, ""
}

// quoted is Go's quoting, which leaves nothing unprintable.
func quoted(name string) string {
	const longest = 64
	if len(name) > longest {
		name = name[:longest] + "..."
	}
	return strconv.Quote(name)
}
