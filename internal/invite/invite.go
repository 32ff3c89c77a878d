// Package invite makes and reads invitations. An invitation is the file of peers.d that
// the other side of a tunnel needs, ready to be put there: this node's public key and
// endpoints, and everything that both sides must have alike or mirrored.
//
// It is TOML like any file of peers.d, and read by the same strict code. What is no
// configuration stands in comments at its head:
//
//	# An invitation from alpha, made by tunctl invite. On the host that it is for:
//	#     tunctl join FILE
//	#:for 9E5k5185SOn3P436lHIcTOjLtPJlxHkMcCstQc+/J1M=
//
//	[peer.alpha]
//	public_key = "pRFG04B3/5kuuoTPHV6bJJBzUD63SGhpkBYVOwMaOPc="
//	endpoints = ["alpha.example.org:7900"]
//	addresses = ["10.77.0.2/30"]
//
// A line that begins with "#:" is a directive; one that is not known is refused. The
// only one is "for": the public key of the node that is invited. An invitation holds no
// secret.
//
// Nothing here reads files or asks the system: package config does the one, the caller
// the other.
package invite

import (
	"fmt"
	"net/netip"
	"strings"

	"tund/internal/config"
	"tund/internal/keys"
)

// Invite is one invitation.
type Invite struct {
	For  keys.PublicKey // whom it is for; zero: it does not say
	Peer config.Peer    // the node that invites, as the other side's peer

	// Unanswered are the inviting node's addresses that do not tell the other side's.
	Unanswered []netip.Prefix
	// Notes tell the reader what is missing or comes separately, each on one line.
	// Neither is read back.
	Notes []string

	dir string // where its relative paths begin; of one that was read
}

// keyFile is where an invitation has its pre-shared key, beside the main file.
func keyFile(name string) string { return "../" + name + ".psk" }

// directive begins a line that is for tunctl, not only for people.
const directive = "#:"

// Text returns the invitation as a file.
func (i *Invite) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# An invitation from %s, made by tunctl invite. On the host that it is for:\n#     tunctl join FILE\n", i.Peer.Name)
	if !i.For.IsZero() {
		fmt.Fprintf(&b, "%sfor %s\n", directive, i.For)
	}
	b.WriteString("\n" + i.Peer.Text())
	for _, note := range i.Notes {
		b.WriteString("# " + note + "\n")
	}
	return b.String()
}

// Parse reads an invitation, or any file of peers.d that has one peer. Messages call
// it name; dir is where its relative paths begin. The error is a *config.Errors.
func Parse(name, dir string, data []byte) (*Invite, error) {
	invitee, err := readDirectives(name, data)
	if err != nil {
		return nil, err
	}
	peers, err := config.ParsePeers(name, dir, data)
	switch {
	case err != nil:
		return nil, err
	case len(peers) != 1:
		return nil, problem(name, 0, "holds %d peers, not one", len(peers))
	}
	return &Invite{For: invitee, Peer: peers[0], dir: dir}, nil
}

// readDirectives reads the comments before the first line that is none.
func readDirectives(name string, data []byte) (invitee keys.PublicKey, err error) {
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		number++
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			break
		}
		text, found := strings.CutPrefix(line, directive)
		if !found {
			continue
		}
		word, value, _ := strings.Cut(text, " ")
		switch {
		case word != "for":
			return invitee, problem(name, number, "unknown directive %q: is it from a later version of tund?", word)
		case !invitee.IsZero():
			return invitee, problem(name, number, "says for whom it is twice")
		}
		if invitee, err = keys.ParsePublicKey(value); err != nil {
			return invitee, problem(name, number, "does not say for whom it is by a public key, as tunctl pubkey prints it")
		}
	}
	return invitee, nil
}

// problem is an error of an invitation as a whole or of one of its lines.
func problem(name string, line int, format string, args ...any) *config.Errors {
	return &config.Errors{Problems: []config.Problem{{File: name, Line: line, Message: fmt.Sprintf(format, args...)}}}
}
