package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"tund/internal/ctl"
)

const (
	// lookPause is the time between two looks whether the new tund is there.
	lookPause = 20 * time.Millisecond
	// lookLimit bounds one look: the old tund does not answer while it hands over.
	lookLimit = 2 * time.Second
)

func newRestart(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "restart",
		Short: "Replace tund by its program anew; tunnels stay",
		Long: `Replace the running tund by its program anew, as after an upgrade, and wait until
that has taken over. Packets wait meanwhile, and none is lost. The program must
run and take the configuration, else nothing happens. A tunnel that could not be
taken over with its keys has agreed on new ones, and packets of it may be lost.`,
		Example: "  tunctl restart\n  tunctl restart --timeout 1m",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if p.timeout > 0 {
				limited, cancel := context.WithTimeout(ctx, p.timeout)
				defer cancel()
				ctx = limited
			}
			result, err := p.restart(ctx)
			if err != nil {
				return err
			}
			return p.showRestart(result)
		},
	}
}

// restarted is what tunctl restart prints with --json.
type restarted struct {
	Schema int             `json:"schema"`
	Result string          `json:"result"` // "restarted"
	MS     int64           `json:"ms"`     // all of it, as tunctl saw it
	GapMS  float64         `json:"gap_ms"` // the longest that packets of one peer waited
	From   programOf       `json:"from"`
	To     programOf       `json:"to"`
	Peers  []restartedPeer `json:"peers"` // those that were taken over
}

type programOf struct {
	Version  string `json:"version"`
	Instance string `json:"instance"`
}

type restartedPeer struct {
	Name string `json:"name"`
	ctl.Takeover
}

// restart asks for a restart and waits until the new tund has taken everything over.
func (p *program) restart(ctx context.Context) (restarted, error) {
	began := time.Now()
	begun, err := p.client().Restart(ctx)
	if err != nil {
		return restarted{}, err
	}
	r := restarted{Schema: ctl.Schema, Result: "restarted", From: programOf{begun.Version, begun.Instance}, Peers: []restartedPeer{}}
	status, err := p.awaitSuccessor(ctx, begun.Instance)
	if err != nil {
		return r, err
	}
	r.MS = time.Since(began).Milliseconds()
	r.To = programOf{status.Node.Version, status.Node.Instance}
	for _, peer := range status.Peers {
		if peer.Takeover != nil {
			r.Peers = append(r.Peers, restartedPeer{peer.Name, *peer.Takeover})
			r.GapMS = max(r.GapMS, peer.Takeover.GapMS)
		}
	}
	return r, nil
}

// awaitSuccessor waits for a tund of another instance that knows what came of all tunnels.
func (p *program) awaitSuccessor(ctx context.Context, instance string) (ctl.Status, error) {
	look := ctl.NewClient(p.socket, lookLimit)
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := errors.New("the old tund is at work still")
	for {
		select {
		case <-timer.C:
			timer.Reset(lookPause)
		case <-ctx.Done():
			return ctl.Status{}, ctl.Errorf(ctl.CodeTimeout, "the new tund has not taken over in time: %v", last)
		}
		status, err := look.Status(ctx)
		switch {
		case err != nil:
			last = err
		case status.Node.Instance == instance && status.Node.RestartError != "":
			return status, ctl.Errorf(ctl.CodeFailed, "not restarted, the old tund goes on: %s", status.Node.RestartError)
		case status.Node.Instance != instance && settled(status):
			return status, nil
		}
	}
}

// settled tells whether it is clear what came of each tunnel.
func settled(status ctl.Status) bool {
	for _, peer := range status.Peers {
		if peer.Takeover != nil && peer.Takeover.Result == ctl.TakeoverPending {
			return false
		}
	}
	return true
}

// showRestart prints how it went. Exit status 5 says that packets may be lost.
func (p *program) showRestart(r restarted) error {
	fresh := 0
	for _, peer := range r.Peers {
		if peer.Result != ctl.TakeoverResumed {
			fresh++
		}
	}
	if p.json {
		p.writeJSON(r)
	} else {
		p.tellRestart(r, fresh)
	}
	if fresh > 0 {
		return &reported{exitPartly}
	}
	return nil
}

func (p *program) tellRestart(r restarted, fresh int) {
	for _, peer := range r.Peers {
		if peer.Result != ctl.TakeoverResumed {
			p.complain("%s: started with new keys: %s", peer.Name, peer.Reason)
		}
	}
	if r.From.Version != r.To.Version {
		p.printf("tund %s is tund %s now\n", r.From.Version, r.To.Version)
	}
	p.printf("restarted in %d ms; %s taken over, whose packets waited for %.0f ms at most\n",
		r.MS, plural(uint64(len(r.Peers)-fresh), "tunnel"), r.GapMS)
}
