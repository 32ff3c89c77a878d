package main

import (
	"github.com/spf13/cobra"

	"tund/internal/ctl"
)

func newUp(p *program) *cobra.Command {
	return &cobra.Command{
		Use:               "up PEER",
		Short:             "Let a peer connect, and wait until it is up",
		Example:           "  tunctl up beta\n  tunctl up beta --timeout 2m",
		Args:              onePeer,
		ValidArgsFunction: p.completePeers(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := p.client().Up(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if p.json {
				p.writeJSON(result)
				return nil
			}
			p.printf("%s: %s\n", result.Peer, result.State)
			return nil
		},
	}
}

func newDown(p *program) *cobra.Command {
	var both bool
	cmd := &cobra.Command{
		Use:   "down PEER [--both]",
		Short: "Close a peer's tunnel until it is told up again",
		Long: `Close a peer's tunnel and keep it closed until tunctl up. The other side is told
where there is a session. With --both it is asked to stay down as well, until
its own administrator says up.

The order survives restarts, stops and starts of tund, but not a reboot of this
host: then the tunnel comes up as configured. To keep it down for good, set
enabled = false.`,
		Example:           "  tunctl down beta\n  tunctl down beta --both",
		Args:              onePeer,
		ValidArgsFunction: p.completePeers(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := p.client().Down(cmd.Context(), args[0], both)
			if err != nil {
				return err
			}
			return p.showDown(result, both)
		},
	}
	cmd.Flags().BoolVar(&both, "both", false, "ask the other side to stay down too")
	return cmd
}

func newShutdown(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "shutdown PEER",
		Short: "Order the other side to close this tunnel",
		Long: `Order the other side to close this tunnel, and wait until it says that it has.
Fails if there is no session to give the order by.`,
		Example:           "  tunctl shutdown beta",
		Args:              onePeer,
		ValidArgsFunction: p.completePeers(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := p.client().Shutdown(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := p.showDown(result, false); err != nil || result.Acknowledged {
				return err
			}
			return &reported{exitFailed}
		},
	}
}

// showDown prints how a tunnel was closed. A side that was asked to stay down and
// did not say so leaves the request half done.
func (p *program) showDown(result ctl.DownResult, both bool) error {
	if p.json {
		p.writeJSON(result)
	} else {
		p.printf("%s: %s, %s\n", result.Peer, result.State, otherSide(result))
	}
	if both && !result.StaysDown {
		return &reported{exitPartly}
	}
	return nil
}

func otherSide(result ctl.DownResult) string {
	switch {
	case !result.Told:
		return "the other side was not told: no session"
	case !result.Acknowledged:
		return "the other side was told and has not answered"
	case result.StaysDown:
		return "the other side has closed its end and stays down"
	default:
		return "the other side has closed its end"
	}
}
