package config

import (
	"slices"
	"strings"

	"tund/internal/keys"
)

// Action says what a reload does with one peer.
type Action string

// The actions.
const (
	ActionUnchanged Action = "unchanged" // nothing: the peer is not touched
	ActionLive      Action = "live"      // changed in place; the child keeps its pid
	ActionChild     Action = "child"     // child and device are made anew
	ActionAdded     Action = "added"
	ActionRemoved   Action = "removed"
)

// Change is what a reload does with one peer, and the keys that are the reason.
type Change struct {
	Name   string
	Action Action
	Keys   []string // of ActionLive and ActionChild, in the order of the schema
}

// Difference is all that distinguishes a new configuration from an old one.
type Difference struct {
	Listen   bool     // the listener is bound anew
	Identity bool     // this node has another private key: new sessions with all peers
	Node     []string // the changed keys of [node], in the order of the schema
	Peers    []Change // every peer of both, sorted by name
}

// Changed says whether there is any difference.
func (d Difference) Changed() bool {
	return d.Identity || len(d.Node) > 0 ||
		slices.ContainsFunc(d.Peers, func(c Change) bool { return c.Action != ActionUnchanged })
}

// Diff compares two configurations as [Load] returned them. A key file counts as
// changed when its path or its content has changed; Identity looks at the content
// alone, so that a key that only moved costs no session.
func Diff(old, next *Config) Difference {
	d := Difference{Identity: !old.Node.PrivateKey.Equal(&next.Node.PrivateKey)}
	var started []string
	for _, f := range nodeFields {
		if f.get(&old.Node) != f.get(&next.Node) || f.Name == "private_key_file" && d.Identity {
			d.Node = append(d.Node, f.Name)
			d.Listen = d.Listen || f.Class == Listen
			if f.Class == Child { // what a child learns once, at its start
				started = append(started, f.Name)
			}
		}
	}
	for i, j := 0, 0; i < len(old.Peers) || j < len(next.Peers); {
		switch order := compareNames(old.Peers, i, next.Peers, j); {
		case order < 0:
			d.Peers = append(d.Peers, Change{Name: old.Peers[i].Name, Action: ActionRemoved})
			i++
		case order > 0:
			d.Peers = append(d.Peers, Change{Name: next.Peers[j].Name, Action: ActionAdded})
			j++
		default:
			change := diffPeer(&old.Peers[i], &next.Peers[j])
			if len(started) > 0 {
				change.Action, change.Keys = ActionChild, append(change.Keys, started...)
			}
			d.Peers = append(d.Peers, change)
			i++
			j++
		}
	}
	return d
}

// Lost returns what next lacks of old: "peer gamma", or a key that is back at its
// default, "peer.beta.routes"; "" if nothing. A file that was cut off loses just that,
// and may be valid nevertheless.
func Lost(old, next *Config) string {
	usual := DefaultPeer()
	for i := range old.Peers {
		was := &old.Peers[i]
		is, ok := next.Peer(was.Name)
		if !ok {
			return "peer " + was.Name
		}
		usual.Interface = defaultInterface(&is)
		for _, f := range peerFields {
			if text := f.get(&is); text != f.get(was) && text == f.get(&usual) {
				return tablePeer + "." + was.Name + "." + f.Name
			}
		}
	}
	var none Node
	fill(&document{}, nil, nil, defaultValues(nodeFields), nodeFields, &none, &collector{})
	for _, f := range nodeFields {
		if text := f.get(&next.Node); text != f.get(&old.Node) && text == f.get(&none) {
			return tableNode + "." + f.Name
		}
	}
	return ""
}

// compareNames compares a[i] with b[j]; the end of a list comes after every name.
func compareNames(a []Peer, i int, b []Peer, j int) int {
	switch {
	case i == len(a):
		return 1
	case j == len(b):
		return -1
	}
	return strings.Compare(a[i].Name, b[j].Name)
}

func diffPeer(old, next *Peer) Change {
	change := Change{Name: next.Name, Action: ActionUnchanged}
	for _, f := range peerFields {
		if f.get(old) == f.get(next) && (f.Name != "preshared_key_file" || equalSecrets(old.PresharedKey, next.PresharedKey)) {
			continue
		}
		change.Keys = append(change.Keys, f.Name)
		switch {
		case f.Class != Live:
			change.Action = ActionChild
		case change.Action == ActionUnchanged:
			change.Action = ActionLive
		}
	}
	return change
}

func equalSecrets(a, b *keys.Secret) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(b)
}
