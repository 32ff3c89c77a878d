package main

import (
	"os"
	"strings"

	"tund/internal/ctl"
)

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	faint  = "\x1b[2m"
	plain  = "\x1b[0m"
)

// paint returns the word for a state, coloured where that can be seen and is
// wanted (see no-color.org).
func (p *program) paint(state ctl.State) string {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !isTerminal(p.stdout) {
		return string(state)
	}
	return colourOf(state) + string(state) + plain
}

func colourOf(state ctl.State) string {
	switch state {
	case ctl.StateUp, ctl.StateRekeying:
		return green
	case ctl.StateDown:
		return red
	case ctl.StateDisabled:
		return faint
	default:
		return yellow
	}
}

// visible is the width of a cell without what colours it.
func visible(cell string) int {
	if strings.HasPrefix(cell, "\x1b") {
		_, rest, _ := strings.Cut(cell, "m")
		return len(strings.TrimSuffix(rest, plain))
	}
	return len(cell)
}
