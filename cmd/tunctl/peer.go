package main

import (
	"fmt"
	"strings"
	"time"

	"tund/internal/ctl"
)

// showPeer prints everything about one peer, a line for each thing.
func (p *program) showPeer(peer ctl.PeerStatus) {
	for _, line := range []struct{ key, value string }{
		{"peer", peer.Name},
		{"state", fmt.Sprintf("%s for %s (since %s)", p.paint(peer.State), words(seconds(peer.StateAgeS)), peer.Since.Format(time.RFC3339))},
		{"interface", fmt.Sprintf("%s (%s, mtu %d)", or(peer.Interface, "none"), peer.Mode, peer.MTU)},
		{"endpoint", endpoint(peer)},
		{"epoch", epoch(peer)},
		{"received", fmt.Sprintf("%s in %s, %d lost", size(peer.RxBytes), plural(peer.RxPackets, "packet"), peer.Lost)},
		{"sent", fmt.Sprintf("%s in %s", size(peer.TxBytes), plural(peer.TxPackets, "packet"))},
		{"round trip", unmeasured(peer.RTTms, milliseconds)},
		{"loss", unmeasured(peer.Loss, percent)},
		{"dropped", or(drops(peer.Drops), "nothing")},
		{"cipher", cipher(peer)},
		{"offload", or(strings.Join(peer.Offload, ", "), "none")},
		{"sandbox", confinement(peer)},
		{"child", child(peer)},
		{"last error", or(peer.LastError, "none")},
	} {
		p.printf("%-12s%s\n", line.key+":", line.value)
	}
}

func confinement(peer ctl.PeerStatus) string {
	text := or(strings.Join(peer.Sandbox, ", "), "none")
	if len(peer.SandboxLacks) > 0 {
		text += "; lacks " + strings.Join(peer.SandboxLacks, ", ")
	}
	return text
}

func endpoint(peer ctl.PeerStatus) string {
	if peer.Endpoint == "" {
		return "none known"
	}
	if peer.Transport == "" {
		return peer.Endpoint + " (no data can flow)"
	}
	return peer.Endpoint + " by " + peer.Transport
}

func epoch(peer ctl.PeerStatus) string {
	text := "none yet"
	if peer.Epoch != 0 {
		text = fmt.Sprintf("%d for %s, iv generation %d", peer.Epoch, words(seconds(peer.EpochAgeS)), peer.IVGeneration)
	}
	if peer.ExchangesFailed > 0 {
		text += fmt.Sprintf(" (%s failed)", plural(peer.ExchangesFailed, "exchange"))
	}
	return text
}

func drops(d ctl.Drops) string {
	return nonzero([]count{
		{"auth", d.Auth},
		{"replay", d.Replay},
		{"malformed", d.Malformed},
		{"unknown", d.Unknown},
		{"queue", d.Queue},
		{"source", d.Source},
		{"device", d.Device},
		{"send", d.Send},
		{"no_key", d.NoKey},
	})
}

func cipher(peer ctl.PeerStatus) string {
	if peer.AEAD == "" {
		return "none yet"
	}
	return peer.AEAD + " (engine " + or(peer.Engine, "unknown") + ")"
}

func child(peer ctl.PeerStatus) string {
	restarts := "restarted " + plural(peer.Restarts, "time")
	if peer.ChildPID == 0 {
		return "none, " + restarts
	}
	return fmt.Sprintf("pid %d, %s", peer.ChildPID, restarts)
}

func unmeasured(value *float64, say func(float64) string) string {
	if value == nil {
		return "not measured"
	}
	return say(*value)
}
