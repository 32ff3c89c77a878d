package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File    string `json:"file"`           // relative to the directory of the main file
	Line    int    `json:"line,omitempty"` // from 1; 0: the file as a whole
	Key     string `json:"key,omitempty"`  // such as peer.berlin.mtu; "": none
	Message string `json:"message"`
}

// String returns the problem on one line: "tund.toml:12: peer.berlin.endpoints:
// missing port".
func (p Problem) String() string {
	text := p.File
	if p.Line > 0 {
		text += ":" + strconv.Itoa(p.Line)
	}
	if p.Key != "" {
		text += ": " + p.Key
	}
	return text + ": " + p.Message
}

// Errors is all that is wrong with a configuration, in the order of the files and
// lines. It is what [Load] and [Parse] return, as a pointer.
type Errors struct {
	Problems []Problem
	Files    []string // as Config.Files: mending any of these may mend the rest

	forbidden bool
}

// Is makes errors.Is find [fs.ErrPermission] where a file must not be read.
func (e *Errors) Is(target error) bool { return e.forbidden && target == fs.ErrPermission }

// Error returns one line for each problem.
func (e *Errors) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// collector gathers problems while documents are read.
type collector struct {
	problems  []Problem
	forbidden bool // one of them is that a file must not be read
}

// addError notes what kept a file from being read.
func (c *collector) addError(d *document, key toml.Key, err error) {
	c.forbidden = c.forbidden || errors.Is(err, fs.ErrPermission)
	c.add(d, 0, key, "%v", err)
}

// add notes a problem of key in d; line 0 stands for the line of the key.
func (c *collector) add(d *document, line int, key toml.Key, format string, args ...any) {
	name := key.String()
	if line == 0 {
		line = d.lines[name]
	}
	c.problems = append(c.problems, Problem{
		File: d.name, Line: line, Key: printable(name), Message: printable(fmt.Sprintf(format, args...)),
	})
}

// printable keeps what a file holds from spreading over the reader's terminal.
func printable(text string) string {
	const longest = 1024
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, text)
}

// err returns the problems in order, or nil if there is none. The files' order is
// that in which they were read.
func (c *collector) err(docs []*document, files []string) error {
	if len(c.problems) == 0 {
		return nil
	}
	order := make(map[string]int, len(docs))
	for i, d := range docs {
		order[d.name] = i
	}
	slices.SortStableFunc(c.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line))
	})
	return &Errors{Problems: c.problems, Files: files, forbidden: c.forbidden}
}
