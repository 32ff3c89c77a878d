package ctl

import (
	"reflect"
	"strings"
	"unicode"
)

// OneLine makes any text fit for a line on a terminal or in a table. Lines are joined with
// semicolons; what can't be printed, such as a terminal's control sequences, is shown as
// the replacement character.
func OneLine(text string) string {
	if !strings.ContainsFunc(text, unprintable) && strings.ToValidUTF8(text, "") == text {
		return text
	}
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		line = strings.ReplaceAll(line, "\t", " ")
		lines[i] = strings.TrimSpace(strings.Map(replaceUnprintable, line))
	}
	return strings.Join(lines, "; ")
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func replaceUnprintable(r rune) rune {
	if unprintable(r) {
		return unicode.ReplacementChar
	}
	return r
}

// tidy makes every text in v, which must be settable, one line, and tells whether that has
// changed anything. Texts come from files, from the system, from children and from peers: no one
// of them can be forgotten here. What v points to is copied before it is changed.
func tidy(v reflect.Value) (changed bool) {
	switch v.Kind() {
	case reflect.String:
		if text := OneLine(v.String()); text != v.String() {
			v.SetString(text)
			return true
		}
	case reflect.Pointer:
		if v.IsNil() {
			return false
		}
		c := reflect.New(v.Type().Elem())
		c.Elem().Set(v.Elem())
		if changed = tidy(c.Elem()); changed {
			v.Set(c)
		}
	case reflect.Slice:
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(c, v)
		for i := range c.Len() {
			changed = tidy(c.Index(i)) || changed
		}
		if changed {
			v.Set(c)
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				changed = tidy(f) || changed
			}
		}
	default: // a number or a truth has no text
	}
	return changed
}
