package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
)

// value is one value of a document on its way into a field. Its methods report what
// is wrong and return the zero value then.
type value struct {
	raw  any
	doc  *document
	key  toml.Key
	line int // of a list's element; 0: the line of the key
	errs *collector
}

func (v value) fail(format string, args ...any) {
	v.errs.add(v.doc, v.line, v.key, format, args...)
}

func (v value) wrongType(want string) {
	v.fail("must be %s, not %s", want, typeName(v.raw))
}

func (v value) integer(lowest, highest int64) int {
	n, ok := v.raw.(int64)
	switch {
	case !ok:
		v.wrongType("an integer")
	case n < lowest || n > highest:
		v.fail("%d is not from %d to %d", n, lowest, highest)
	default:
		return int(n)
	}
	return 0
}

func (v value) boolean() bool {
	b, ok := v.raw.(bool)
	if !ok {
		v.wrongType("true or false")
	}
	return b
}

// duration takes no bare integer: nobody can tell whether it means seconds.
func (v value) duration(lowest, highest time.Duration) time.Duration {
	text, ok := v.raw.(string)
	if !ok {
		v.wrongType(`a duration such as "90s" or "2m"`)
		return 0
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		v.fail(`%q is not a duration such as "90s" or "2m"`, text)
	case d < lowest || d > highest:
		v.fail("%q is not from %s to %s", text, durationText(lowest), durationText(highest))
	default:
		return d
	}
	return 0
}

// mtu returns 0 for "auto".
func (v value) mtu() int {
	switch mtu := v.raw.(type) {
	case int64:
		return v.integer(minMTU, maxMTU)
	case string:
		if mtu != "auto" {
			v.fail(`%q is not "auto"; a number is written without quotes`, mtu)
		}
	default:
		v.wrongType(`"auto" or an integer`)
	}
	return 0
}

// path makes a path absolute; a relative one begins at the file that it is written in.
func (v value) path(text string) (string, error) {
	switch {
	case text == "":
		return "", errors.New("must not be empty")
	case strings.ContainsFunc(text, unicode.IsControl):
		return "", errors.New("a path must not hold control characters")
	case filepath.IsAbs(text):
		return filepath.Clean(text), nil
	default:
		return filepath.Join(filepath.Dir(v.doc.path), text), nil
	}
}

// scalar reads a string with parse.
func scalar[E any](v value, parse func(string) (E, error)) E {
	var zero E
	text, ok := v.raw.(string)
	if !ok {
		v.wrongType("a string")
		return zero
	}
	parsed, err := parse(text)
	if err != nil {
		v.fail("%v", err)
		return zero
	}
	return parsed
}

// list reads a list of strings with parse and refuses what is in it twice. It returns
// nil for an empty list. The line of each element is noted under its parsed value, for
// the checks that come later.
func list[E comparable](v value, parse func(string) (E, error)) []E {
	elements, ok := v.raw.([]any)
	if !ok {
		v.wrongType("a list of strings")
		return nil
	}
	var all []E
	for i, raw := range elements {
		element := value{raw: raw, doc: v.doc, key: v.key, errs: v.errs}
		element.line = v.doc.lines[v.key.String()+"["+strconv.Itoa(i)+"]"]
		before := len(v.errs.problems)
		parsed := scalar(element, parse)
		switch {
		case len(v.errs.problems) > before:
		case slices.Contains(all, parsed):
			element.fail("%v is there twice", parsed)
		default:
			all = append(all, parsed)
			v.doc.lines[elementName(v.key, parsed)] = element.line
		}
	}
	return all
}

// elementName is under which name document.lines has an element of a list.
func elementName(key toml.Key, element any) string {
	return fmt.Sprintf("%s=%v", key, element)
}

// oneOf returns a parser that accepts the words and nothing else.
func oneOf(words ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		if slices.Contains(words, text) {
			return text, nil
		}
		return "", fmt.Errorf("%q is not %s", text, `"`+strings.Join(words, `" or "`)+`"`)
	}
}

// typeName names a TOML value's type in messages.
func typeName(raw any) string {
	switch raw.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	default:
		return "a list"
	}
}
