package datapath

import (
	"fmt"
	"io"
)

// What holds keys prints itself, since package fmt would print their bytes: it calls no
// method of what is in an unexported field, and follows a pointer there for some verbs.

const secret = "[secret]"

// Format writes the name of the slot for every verb.
func (s *slot) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "slot %d.%d", s.id, s.generation)
}

// Format writes the number of the epoch for every verb.
func (e *epoch) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "epoch %d", e.number)
}

// Format writes "[secret]" for every verb.
func (*sender) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, secret) }

// Format writes "[secret]" for every verb.
func (*receiver) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, secret) }

// Format writes "[secret]" for every verb.
func (*keyring) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, secret) }

// Format writes "[secret]" for every verb.
func (grave) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, secret) }

// Format writes "[secret]" for every verb.
func (*control) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, secret) }

// Format writes "[secret]" for every verb.
func (*Datapath) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, secret) }
