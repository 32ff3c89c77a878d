package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"tund/internal/ctl"
)

// rotateCall is one of the two requests of a client that rotate.
type rotateCall func(ctx context.Context, peers []string) (ctl.Rotation, error)

func newRotateKey(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-key PEER... | --all",
		Short: "Agree on new keys with peers",
		Long: `Agree on a new epoch, that is new keys made of a new exchange, with each of the
peers, and wait until both ends use it. No packet is lost by it.`,
		Example: "  tunctl rotate-key beta\n  tunctl rotate-key --all --json",
	}
	return p.rotates(cmd, "epoch", func() rotateCall { return p.client().RotateKey })
}

func newRotateIV(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-iv PEER... | --all",
		Short: "Agree on new initialisation vectors with peers",
		Long: `Agree on a new generation of initialisation vectors, under the same keys, with
each of the peers, and wait until both ends use it. No packet is lost by it.`,
		Example: "  tunctl rotate-iv beta\n  tunctl rotate-iv --all --json",
	}
	return p.rotates(cmd, "iv generation", func() rotateCall { return p.client().RotateIV })
}

// rotates completes a command that rotates something.
func (p *program) rotates(cmd *cobra.Command, what string, call func() rotateCall) *cobra.Command {
	all := cmd.Flags().Bool("all", false, "with all peers that are enabled")
	cmd.ValidArgsFunction = p.completePeers(0)
	cmd.Args = func(cmd *cobra.Command, args []string) error { return peersOrAll(cmd, args, *all) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rotation, err := call()(cmd.Context(), args)
		if err != nil {
			return err
		}
		return p.showRotation(rotation, what)
	}
	return cmd
}

// peersOrAll demands names, none twice, or --all.
func peersOrAll(cmd *cobra.Command, args []string, all bool) error {
	switch {
	case all && len(args) > 0:
		return usagef("%s: either names of peers or --all", cmd.CommandPath())
	case !all && len(args) == 0:
		return usagef("%s needs names of peers, or --all", cmd.CommandPath())
	}
	return namesOnce(cmd, args)
}

// namesOnce demands that no name is empty or comes twice.
func namesOnce(cmd *cobra.Command, args []string) error {
	seen := make(map[string]bool)
	for _, name := range args {
		if name == "" || seen[name] {
			return usagef("%s: %q is empty or comes twice", cmd.CommandPath(), name)
		}
		seen[name] = true
	}
	return nil
}

// showRotation prints the results and turns them into an exit status.
func (p *program) showRotation(rotation ctl.Rotation, what string) error {
	if p.json {
		p.writeJSON(rotation)
	}
	done := 0
	for _, r := range rotation.Results {
		if r.Result == ctl.ResultDone {
			done++
		}
		if !p.json {
			p.showResult(r, what)
		}
	}
	switch {
	case done == len(rotation.Results):
		return nil
	case done == 0:
		return &reported{exitFailed}
	default:
		return &reported{exitPartly}
	}
}

func (p *program) showResult(r ctl.PeerResult, what string) {
	if r.Result != ctl.ResultDone {
		p.complain("%s: %s: %s", r.Peer, r.Result, r.Error)
		return
	}
	p.printf("%s: %s %d -> %d in %d ms, %s\n", r.Peer, what, r.From, r.To, r.MS, lost(r))
}

// lost says how many packets a rotation has cost, and in which direction.
func lost(r ctl.PeerResult) string {
	if r.Lost == nil {
		return "packets lost: unknown"
	}
	text := plural(*r.Lost, "packet") + " lost"
	if *r.Lost > 0 && r.LostRx != nil && r.LostTx != nil {
		text += fmt.Sprintf(" (rx %d, tx %d)", *r.LostRx, *r.LostTx)
	}
	return text
}
