package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

var errNotConfirmed = errors.New("not confirmed: nothing has changed")

// confirm asks on the terminal. Standard input that holds something else is left alone:
// then the terminal is asked by its own name. Without one it is a mistake not to have said --yes.
func (p *program) confirm(question string, inputTaken bool) error {
	from := p.stdin
	if inputTaken && isTerminal(p.stderr) {
		tty, err := os.Open("/dev/tty")
		if err != nil {
			return usagef("no terminal to ask on: --yes does it without asking")
		}
		defer func() { _ = tty.Close() }()
		from = tty
	}
	if p.json || !isTerminal(from) {
		return usagef("no terminal to ask on: --yes does it without asking")
	}
	_, _ = fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(from).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}
