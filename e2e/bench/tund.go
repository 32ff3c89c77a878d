package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"tund/e2e/lab"
)

// tund returns the system under test, with further lines in [node].
func tund(name, about string, lines []string) system {
	return system{
		name: name, about: about,
		version: func(b *bed) (string, error) { return tundVersion(b, lines) },
		start:   func(b *bed) error { return startTund(b, lines) },
		stop:    stopTund,
		details: engine,
	}
}

// tundVersion also finds out whether tund knows the lines.
func tundVersion(b *bed, lines []string) (string, error) {
	if ok, why := b.pair.Alpha.Understands(b.pair.AlphaTable, lines...); !ok {
		return "", fmt.Errorf("tund does not take %s: %s", strings.Join(lines, ", "), firstLine(why))
	}
	r := b.pair.Alpha.Ctl("version")
	if r.Code != 0 {
		return "", fmt.Errorf("tunctl version: %s", firstLine(r.Stderr))
	}
	return strings.Join(strings.Fields(firstLine(r.Stdout)), " "), nil
}

func startTund(b *bed, lines []string) error {
	for node, table := range map[*lab.Node]lab.Table{b.pair.Alpha: b.pair.AlphaTable, b.pair.Beta: b.pair.BetaTable} {
		table.Node = append(append([]string{}, table.Node...), lines...)
		node.Configure(table)
	}
	b.pair.Up()
	return nil
}

func stopTund(b *bed) error {
	var err error
	for _, n := range []*lab.Node{b.pair.Alpha, b.pair.Beta} {
		if !n.Running() {
			err = errors.Join(err, fmt.Errorf("tund on %s has ended by itself", n.Name))
			continue
		}
		if code, _ := n.Stop(); code != 0 {
			err = errors.Join(err, fmt.Errorf("tund on %s ended with %d", n.Name, code))
		}
	}
	return err
}

// engine returns what tund says of its AEAD, its engine and its offloads.
func engine(b *bed) string {
	var status struct {
		Peers []struct {
			AEAD    string          `json:"aead"`
			Engine  string          `json:"engine"`
			Offload json.RawMessage `json:"offload"`
			MTU     int             `json:"mtu"`
		} `json:"peers"`
	}
	r := b.pair.Alpha.Ctl("status", "--json")
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil || len(status.Peers) != 1 {
		return "no status"
	}
	p := status.Peers[0]
	return fmt.Sprintf("aead %s, engine %s, offload %s, MTU %d", p.AEAD, or(p.Engine, "not told"), or(string(p.Offload), "not told"), p.MTU)
}

// or returns the first text that is not empty.
func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// firstLine returns the first line of a text.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
