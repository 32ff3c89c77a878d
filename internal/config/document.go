package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"

	"github.com/BurntSushi/toml"
)

// MaxFileSize is the largest configuration file that is read.
const MaxFileSize = 1 << 20

// Limits of a document, far beyond any real one. The TOML library takes a stack frame
// for each bracket and, for each dotted key and each inline table, time and memory in
// the square of its depth; it has no limits of its own.
const (
	maxBrackets   = 50_000
	maxBraces     = 1024
	maxKeyParts   = 32
	maxTableDepth = 3 // peer, its name, a key
)

const keyPart = `(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')`

// deepKey finds a dotted key of more than maxKeyParts parts.
var deepKey = regexp.MustCompile(fmt.Sprintf(`(?:%s[ \t]*\.[ \t]*){%d}`, keyPart, maxKeyParts))

// document is one file's TOML, not yet looked at.
type document struct {
	name  string         // in messages: relative to the main file's directory
	path  string         // absolute
	tree  map[string]any // what the library made of it
	keys  []toml.Key     // every key and table, in the order of the file
	lines map[string]int // see locate
	peers bool           // only [peer.NAME] tables belong here
}

// decode fills d from the text of its file. Into a tree of maps, keys come with their
// exact spelling and values with their own type; decoding into a struct would match
// keys in any case and turn -3 into an unsigned number.
func (d *document) decode(data []byte, errs *collector) bool {
	if err := checkLimits(data); err != nil {
		errs.add(d, 0, nil, "%v", err)
		return false
	}
	keys, err := decodeTree(string(data), &d.tree)
	var syntax toml.ParseError
	switch {
	case errors.As(err, &syntax):
		errs.add(d, syntax.Position.Line, nil, "%s (column %d)", syntax.Message, syntax.Position.Col)
	case err != nil:
		errs.add(d, 0, nil, "%v", err)
	default:
		d.keys, d.lines = keys, locate(data)
	}
	return err == nil
}

// decodeTree is toml.Decode, whose internal errors are panics.
func decodeTree(text string, tree *map[string]any) (keys []toml.Key, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not understood by the TOML parser: %v", r)
		}
	}()
	meta, err := toml.Decode(text, tree)
	return meta.Keys(), err
}

func checkLimits(data []byte) error {
	switch {
	case len(data) > MaxFileSize:
		return fmt.Errorf("larger than %d bytes", MaxFileSize)
	case bytes.Count(data, []byte("[")) > maxBrackets, bytes.Count(data, []byte("{")) > maxBraces:
		return errors.New("too many brackets")
	case deepKey.Match(data):
		return errors.New("a key has too many dots")
	}
	return nil
}

// lookup returns the value at a key's path.
func (d *document) lookup(key toml.Key) (any, bool) {
	var value any = d.tree
	for _, part := range key {
		table, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = table[part]; !ok {
			return nil, false
		}
	}
	return value, true
}
