package mantest

import (
	"regexp"
	"strings"
)

// sentence matches the end of one within a line: the next belongs on a line of its own,
// where it gets the space that its typesetting wants.
var sentence = regexp.MustCompile(`([a-z0-9)"][.:?]) +([A-Z"])`)

// Text makes paragraphs of roff of plain text.
func Text(plain string) string {
	text := escape(strings.TrimSpace(plain))
	text = sentence.ReplaceAllString(text, "$1\n$2")
	return strings.ReplaceAll(text, "\n\n", "\n.Pp\n") + "\n"
}

// literal makes a block of roff that stands as it is.
func literal(plain string) string {
	return ".Bd -literal -offset indent\n" + exact(outdent(plain)) + "\n.Ed\n"
}

// outdent removes the two spaces that begin the lines of an example.
func outdent(text string) string {
	return strings.ReplaceAll(strings.TrimPrefix(text, "  "), "\n  ", "\n")
}

// hyphens matches those that do not stand within a word: they are minus signs.
var hyphens = regexp.MustCompile(`(^|[^A-Za-z0-9])-+`)

// escape makes roff take prose for text. A hyphen within a word stays one.
func escape(text string) string {
	return hyphens.ReplaceAllStringFunc(guard(text), minus)
}

// exact makes roff take what may be copied for text: every hyphen is a minus sign.
func exact(text string) string { return minus(guard(text)) }

func minus(text string) string { return strings.ReplaceAll(text, "-", `\-`) }

// guard protects all but hyphens.
func guard(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	return regexp.MustCompile(`(?m)^\.`).ReplaceAllString(text, `\&.`)
}

// Word makes an argument of a macro of a word.
func Word(text string) string {
	text = exact(text)
	if strings.ContainsAny(text, ` "`) {
		return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
	}
	return text
}
