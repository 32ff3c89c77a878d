package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"tund/internal/ctl"
)

func newReload(p *program) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Load the configuration again",
		Long: `Have tund load its configuration again and apply what has changed. Peers that
have not changed lose nothing. A configuration with errors changes nothing. What
can't be had now, such as a route that another program has, a bridge or an address
to listen on that is not there yet, is named and tried again until it can; the
rest works meanwhile. With --wait it waits until the tunnels of new peers are up, or
says why they are not (exit status 5).

Each key that has changed is shown with its old and its new value, as the log has
them too; of a secret only that it has changed.`,
		Example: "  tunctl check && tunctl reload --wait",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := p.client().Reload(cmd.Context())
			if err != nil {
				return err
			}
			if err := p.showReload(result); err != nil || !wait || p.json {
				return err
			}
			return p.awaitAdded(cmd.Context(), result.Peers)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until new peers are up; not with --json")
	return cmd
}

// awaitAdded waits for the tunnels of new peers.
func (p *program) awaitAdded(ctx context.Context, peers []ctl.ReloadPeer) error {
	var failed error
	for _, peer := range peers {
		if peer.Action == ctl.ActionAdded {
			failed = cmp.Or(failed, p.showTunnel(peer.Name, p.awaitUp(ctx, peer.Name)))
		}
	}
	return failed
}

// showReload prints what was done to each peer, what was refused, and what is missing.
func (p *program) showReload(result ctl.ReloadResult) error {
	if p.json {
		p.writeJSON(result)
		return reloadStatus(result.Result)
	}
	if len(result.Node) > 0 {
		p.printf("node:\n")
		p.showChanges(result.Node)
	}
	for _, peer := range result.Peers {
		p.showReloadPeer(peer)
	}
	for _, missing := range result.Missing {
		p.complain("not there yet: %s", missing)
	}
	for _, e := range result.Errors {
		_, _ = fmt.Fprintln(p.stderr, located(e))
	}
	switch result.Result {
	case ctl.ReloadRefused:
		p.complain("configuration refused: nothing has changed")
	case ctl.ReloadPartly:
		p.complain("configuration applied, but not all of it")
	default:
		p.printf("configuration %s\n", result.Result)
	}
	return reloadStatus(result.Result)
}

func (p *program) showReloadPeer(peer ctl.ReloadPeer) {
	text := string(peer.Action)
	if peer.Reason != "" {
		text += ": " + peer.Reason
	}
	if peer.Action == ctl.ActionRefused {
		p.complain("%s: %s", peer.Name, text)
		return
	}
	p.printf("%s: %s\n", peer.Name, text)
	p.showChanges(peer.Changes)
	for _, missing := range peer.Missing {
		p.complain("%s: not there yet: %s", peer.Name, missing)
	}
}

// showChanges prints the old and the new value of each key.
func (p *program) showChanges(changes []ctl.ReloadChange) {
	for _, c := range changes {
		if c.Content {
			p.printf("  %s: the content of %s has changed\n", c.Key, c.To)
			continue
		}
		p.printf("  %s: %s -> %s\n", c.Key, or(c.From, "none"), or(c.To, "none"))
	}
}

// reloadStatus is the exit status for the outcome, an outcome of a later daemon
// counting as failed.
func reloadStatus(outcome ctl.ReloadOutcome) error {
	switch outcome {
	case ctl.ReloadApplied, ctl.ReloadUnchanged:
		return nil
	case ctl.ReloadPartly:
		return &reported{exitPartly}
	default:
		return &reported{exitFailed}
	}
}

// located is an error of the configuration on one line.
func located(e ctl.ConfigError) string {
	text := e.File
	if e.Line > 0 {
		text += ":" + strconv.Itoa(e.Line)
	}
	if e.Key != "" {
		text += ": " + e.Key
	}
	return text + ": " + e.Message
}
