package journal

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// printable returns s with everything that a terminal may obey as an escape sequence of Go, as in
// `\x1b`. A tab stays.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !harmless(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if part := s[:n]; harmless(r) {
			b.WriteString(part)
		} else {
			quoted := strconv.Quote(part)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// harmless tells whether a rune goes to a terminal as it is. An invalid byte decodes to what does not.
func harmless(r rune) bool { return r == '\t' || r != utf8.RuneError && strconv.IsPrint(r) }
