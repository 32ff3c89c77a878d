package config

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// locator walks over TOML text that is known to be valid and notes on which line each
// key is. The TOML library knows but does not tell. On text that it does not
// understand the locator stops; lines are missing then, nothing worse.
type locator struct {
	data  []byte
	at    int
	line  int
	table toml.Key
	lines map[string]int
}

// locate returns the first line of every key and table, under its full name such as
// peer.berlin.mtu, and of every element of a list, such as peer.berlin.routes[0].
func locate(data []byte) map[string]int {
	l := &locator{data: data, line: 1, lines: make(map[string]int)}
	l.data = bytes.TrimPrefix(l.data, []byte("\xef\xbb\xbf"))
	for l.skipBlank(); l.at < len(l.data); l.skipBlank() {
		if ok := l.statement(); !ok {
			break
		}
	}
	return l.lines
}

// statement walks over one table header or one assignment.
func (l *locator) statement() bool {
	if l.peek() != '[' {
		return l.assignment(l.table)
	}
	for l.accept('[') {
	}
	key, ok := l.key()
	if !ok || l.peek() != ']' {
		return false
	}
	for l.accept(']') {
	}
	l.table = key
	l.note(key)
	return true
}

// assignment walks over "key = value" in a table.
func (l *locator) assignment(table toml.Key) bool {
	key, ok := l.key()
	if !ok || !l.accept('=') {
		return false
	}
	full := append(slices.Clip(table), key...)
	l.note(full)
	l.skipSpace()
	return l.value(full)
}

// key reads a dotted key and the space around it.
func (l *locator) key() (toml.Key, bool) {
	var key toml.Key
	for {
		l.skipSpace()
		part, ok := l.keyPart()
		if !ok {
			return nil, false
		}
		key = append(key, part)
		l.skipSpace()
		if !l.accept('.') {
			return key, true
		}
	}
}

func (l *locator) keyPart() (string, bool) {
	start := l.at
	switch quote := l.peek(); quote {
	case '\'', '"':
		l.skipQuoted(quote)
		text := string(l.data[start:l.at])
		if quote == '"' && strings.Contains(text, `\`) {
			unquoted, err := strconv.Unquote(text)
			return unquoted, err == nil
		}
		return strings.TrimSuffix(text[1:], string(quote)), true
	default:
		for l.at < len(l.data) && isBareKey(l.data[l.at]) {
			l.at++
		}
		return string(l.data[start:l.at]), l.at > start
	}
}

// note records the line of a key and of the tables around it, if they are new.
func (l *locator) note(key toml.Key) {
	for i := range min(len(key), maxTableDepth+1) {
		l.noteName(key[:i+1].String())
	}
}

func (l *locator) noteName(name string) {
	if _, known := l.lines[name]; !known {
		l.lines[name] = l.line
	}
}

// value walks over the value of key.
func (l *locator) value(key toml.Key) bool {
	switch c := l.peek(); c {
	case '"', '\'':
		l.skipString(c)
	case '[':
		return l.list(key)
	case '{':
		return l.inlineTable(key)
	default:
		l.skipUntil(",]}#\r\n")
	}
	return true
}

func (l *locator) list(key toml.Key) bool {
	name := key.String()
	l.at++
	for i := 0; ; i++ {
		l.skipBlank()
		if l.accept(']') {
			return true
		}
		start := l.at
		l.noteName(name + "[" + strconv.Itoa(i) + "]")
		if !l.value(key) || l.at == start {
			return false
		}
		l.skipBlank()
		l.accept(',')
	}
}

func (l *locator) inlineTable(key toml.Key) bool {
	l.at++
	for {
		l.skipBlank()
		if l.accept('}') {
			return true
		}
		if !l.assignment(key) {
			return false
		}
		l.skipBlank()
		l.accept(',')
	}
}

// peek returns the next byte, or 0 at the end.
func (l *locator) peek() byte {
	if l.at == len(l.data) {
		return 0
	}
	return l.data[l.at]
}

func (l *locator) accept(c byte) bool {
	if l.at == len(l.data) || l.data[l.at] != c {
		return false
	}
	l.at++
	return true
}

func (l *locator) skipSpace() {
	for l.peek() == ' ' || l.peek() == '\t' {
		l.at++
	}
}

// skipBlank skips space, line ends and comments.
func (l *locator) skipBlank() {
	for l.at < len(l.data) {
		switch l.data[l.at] {
		case '\n':
			l.line++
			l.at++
		case ' ', '\t', '\r':
			l.at++
		case '#':
			l.skipUntil("\n")
		default:
			return
		}
	}
}

// skipUntil stops before the first of the bytes in stop.
func (l *locator) skipUntil(stop string) {
	if n := bytes.IndexAny(l.data[l.at:], stop); n >= 0 {
		l.at += n
		return
	}
	l.at = len(l.data)
}

// skipString skips a string of any of the four kinds.
func (l *locator) skipString(quote byte) {
	triple := bytes.Repeat([]byte{quote}, 3)
	if !bytes.HasPrefix(l.data[l.at:], triple) {
		l.skipQuoted(quote)
		return
	}
	l.at += 3
	for l.at < len(l.data) && !bytes.HasPrefix(l.data[l.at:], triple) {
		l.skipCharacter(quote)
	}
	for l.accept(quote) { // a string may end with quotes of its own
	}
}

func (l *locator) skipQuoted(quote byte) {
	l.at++
	for l.at < len(l.data) && l.data[l.at] != quote {
		l.skipCharacter(quote)
	}
	l.accept(quote)
}

// skipCharacter skips one byte, or an escape where the quote allows escapes.
func (l *locator) skipCharacter(quote byte) {
	if l.data[l.at] == '\\' && quote == '"' && l.at+1 < len(l.data) {
		l.at++
	}
	if l.data[l.at] == '\n' {
		l.line++
	}
	l.at++
}

func isBareKey(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
