package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/internal/ctl"
)

func newStatus(p *program) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status [PEER] | --check [PEER...]",
		Short: "Show all peers, or one whole",
		Long: `Show all peers, or one whole.

With --check the exit status says whether all of the named peers, or without names
all that are enabled, are up: 0 where they are, 5 where some of them are, 1 where none
is. A peer that is agreeing on new keys is up; a degraded one is not.`,
		Example: `  tunctl status
  tunctl status beta
  tunctl status --check beta > /dev/null || echo "beta is not up"
  tunctl status --json | jq '.peers[] | select(.state != "up") | .name'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if check {
				return namesOnce(cmd, args)
			}
			return atMostOne("peer")(cmd, args)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			limit := 1
			if check {
				limit = 0
			}
			return p.completePeers(limit)(cmd, args, word)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			status, err := p.status(cmd.Context(), args)
			if err != nil || !check {
				return err
			}
			return p.checkUp(status.Peers, len(args) > 0)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with 0 only if these peers are up")
	return cmd
}

// status shows all peers, or those named, and returns what it has shown.
func (p *program) status(ctx context.Context, names []string) (ctl.Status, error) {
	status, err := p.client().Status(ctx)
	if err != nil {
		return status, err
	}
	if len(names) > 0 {
		if status.Peers, err = only(names, status.Peers); err != nil {
			return status, err
		}
	}
	if p.json {
		p.writeJSON(status)
		return status, nil
	}
	if len(names) == 1 {
		p.showPeer(status.Peers[0])
	} else {
		p.showPeers(status.Peers)
		p.showNode(status)
	}
	p.warn(status)
	return status, nil
}

// checkUp returns the exit status of --check. A peer that is disabled does not count unless it
// is named.
func (p *program) checkUp(peers []ctl.PeerStatus, named bool) error {
	wanted, up := 0, 0
	for _, peer := range peers {
		switch {
		case isUp(peer):
			wanted, up = wanted+1, up+1
		case named || peer.State != ctl.StateDisabled:
			wanted++
			if !p.json {
				p.complain("%s is not up: %s", peer.Name, peer.State)
			}
		}
	}
	switch up {
	case wanted:
		return nil
	case 0:
		return &reported{exitFailed}
	default:
		return &reported{exitPartly}
	}
}

func isUp(peer ctl.PeerStatus) bool {
	return peer.State == ctl.StateUp || peer.State == ctl.StateRekeying
}

// warn says what an administrator should look at.
func (p *program) warn(status ctl.Status) {
	for _, peer := range status.Peers {
		for _, text := range peer.Warnings {
			p.complain("warning: %s: %s", peer.Name, text)
		}
	}
	for _, text := range status.Node.Missing {
		p.complain("warning: not there yet: %s", text)
	}
	if text := status.Node.Config.Error; text != "" {
		p.complain("warning: the configuration was not loaded: %s", text)
	}
}

// only returns the peers of those names, in their order.
func only(names []string, peers []ctl.PeerStatus) ([]ctl.PeerStatus, error) {
	var found []ctl.PeerStatus
	for _, name := range names {
		i := slices.IndexFunc(peers, func(peer ctl.PeerStatus) bool { return peer.Name == name })
		if i < 0 {
			var known []string
			for _, peer := range peers {
				known = append(known, peer.Name)
			}
			return nil, ctl.UnknownPeer(name, known)
		}
		found = append(found, peers[i])
	}
	return found, nil
}

// showPeers prints the table of peers.
func (p *program) showPeers(peers []ctl.PeerStatus) {
	if len(peers) == 0 {
		p.printf("no peers are configured\n")
		return
	}
	table := [][]string{{"PEER", "STATE", "FOR", "ENDPOINT", "VIA", "RX", "TX", "RTT", "LOSS", "EPOCH", "AGE", "MTU", "INTERFACE", "LAST ERROR"}}
	for _, peer := range peers {
		table = append(table, p.row(peer))
	}
	for _, line := range align(table) {
		p.printf("%s\n", line)
	}
}

func (p *program) row(peer ctl.PeerStatus) []string {
	epoch, age := "-", "-"
	if peer.Epoch > 0 {
		epoch, age = strconv.FormatUint(uint64(peer.Epoch), 10), short(seconds(peer.EpochAgeS))
	}
	return []string{
		peer.Name, p.paint(peer.State), short(seconds(peer.StateAgeS)), or(peer.Endpoint, "-"), or(peer.Transport, "-"),
		size(peer.RxBytes), size(peer.TxBytes), measured(peer.RTTms, milliseconds), measured(peer.Loss, percent),
		epoch, age, strconv.Itoa(peer.MTU), or(peer.Interface, "-"), peer.LastError,
	}
}

// showNode prints what is to be known of the daemon itself, below the table.
func (p *program) showNode(status ctl.Status) {
	up := 0
	for _, peer := range status.Peers {
		if isUp(peer) {
			up++
		}
	}
	node := status.Node
	p.printf("\n%s: tund %s, running for %s, %d of %s up\n",
		node.Name, node.Version, words(seconds(node.UptimeS)), up, plural(uint64(len(status.Peers)), "peer"))
	r := node.Refused
	refused := nonzero([]count{
		{"prelude", r.Prelude}, {"replay", r.Replay}, {"tls", r.TLS}, {"unknown key", r.UnknownKey}, {"limit", r.Limit},
	})
	if refused != "" {
		p.printf("refused sessions: %s\n", refused)
	}
	for _, k := range node.RefusedKeys {
		p.printf("unknown public key: %s from %s, %s, last %s ago\n", k.PublicKey, k.Endpoint, plural(k.Count, "session"), words(seconds(k.AgeS)))
	}
	if n := node.Drops.Stranger; n > 0 {
		p.printf("dropped: %s from strangers\n", plural(n, "datagram"))
	}
}

// align pads every column but the last to its widest cell.
func align(table [][]string) []string {
	widths := make([]int, len(table[0]))
	for _, row := range table {
		for i, cell := range row {
			widths[i] = max(widths[i], visible(cell))
		}
	}
	lines := make([]string, len(table))
	for i, row := range table {
		var line strings.Builder
		for j, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[j]-visible(cell)+2))
		}
		lines[i] = strings.TrimRight(line.String(), " ")
	}
	return lines
}

// seconds makes a duration of what JSON says.
func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// measured says a value that may be unknown.
func measured(value *float64, say func(float64) string) string {
	if value == nil {
		return "-"
	}
	return say(*value)
}

// count is one of several counters that are shown if they are not 0.
type count struct {
	name string
	n    uint64
}

// nonzero lists the counters that have counted something: "auth 1, replay 2".
func nonzero(counts []count) string {
	var parts []string
	for _, c := range counts {
		if c.n > 0 {
			parts = append(parts, c.name+" "+strconv.FormatUint(c.n, 10))
		}
	}
	return strings.Join(parts, ", ")
}
