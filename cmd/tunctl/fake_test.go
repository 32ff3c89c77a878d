package main

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"tund/internal/ctl"
)

// fakeTund is a daemon with the peers alpha, which is connecting, and beta, which is
// up. Its kind is what is special about it; dir is where its configuration is, if it
// has a real one.
type fakeTund struct {
	kind, dir string
	looks     atomic.Int32 // at the status since a restart, plus one
}

func (f *fakeTund) known(peers []string) error {
	for _, name := range peers {
		if name != "alpha" && name != "beta" {
			return ctl.UnknownPeer(name, []string{"alpha", "beta"})
		}
	}
	return nil
}

func (f *fakeTund) Status(ctx context.Context) (ctl.Status, error) {
	switch f.kind {
	case "slow":
		<-ctx.Done()
		return ctl.Status{}, ctx.Err()
	case "empty":
		return ctl.Status{Node: ctl.NodeStatus{Name: "here", UptimeS: 1}}, nil
	}
	now := time.Now()
	rtt, loss := 1.5, 0.0025
	status := ctl.Status{
		Node: ctl.NodeStatus{Name: "here", PublicKey: "AAAA", PID: 7, UptimeS: 7260, Config: ctl.ConfigStatus{Path: "/etc/tund/tund.toml", LoadedAt: now}},
		Peers: []ctl.PeerStatus{
			{
				Name: "alpha", State: ctl.StateConnecting, Mode: "tap", Interface: "tap-alpha", MTU: 1400,
				Since: now.Add(-26 * time.Hour), StateAgeS: 26 * 3600, LastError: "dial 192.0.2.9:7900: connection refused",
			},
			{
				Name: "beta", State: ctl.StateUp, Mode: "tun", Interface: "tun-beta", ChildPID: 8, Endpoint: "192.0.2.1:7900", Transport: "udp",
				Epoch: 4, IVGeneration: 1, EpochAgeS: 62, RxBytes: 5 << 20, TxBytes: 2000, RxPackets: 4000, TxPackets: 1, Lost: 2,
				Drops: ctl.Drops{Replay: 1, NoKey: 12}, RTTms: &rtt, Loss: &loss, MTU: 1420, AEAD: "aes-256-gcm", Engine: "go",
				StateAgeS: 192, Restarts: 1, ExchangesFailed: 3,
				Since: now.AddDate(5, 0, 0), // as if the clock had been set meanwhile: no age may come of it
			},
		},
	}
	if strings.HasPrefix(f.kind, "joined") {
		status.Node.Config.Path = f.dir + "/tund.toml"
	}
	if f.kind == "added" || strings.HasPrefix(f.kind, "joined") && f.kind != "joined-silent" {
		status.Peers[0].State, status.Peers[0].LastError = ctl.StateUp, ""
	}
	f.restarted(&status)
	if f.kind == "trouble" {
		status.Node.Config.Error = "tund.toml:12: peer.beta.mtu: 70 is too small"
		status.Node.Drops.Stranger = 1
		status.Peers[1].Warnings = []string{"dropped packets whose source is not in 10.77.0.0/30"}
		status.Node.Refused = ctl.Refused{Prelude: 3, UnknownKey: 1}
		status.Node.RefusedKeys = []ctl.RefusedKey{{PublicKey: "BBBB", Endpoint: "192.0.2.9:40000", AgeS: 61, Count: 1}}
	}
	return status, nil
}

func (f *fakeTund) rotate(ctx context.Context, peers []string) (ctl.Rotation, error) {
	if f.kind == "slow" {
		<-ctx.Done()
		return ctl.Rotation{}, ctx.Err()
	}
	if err := f.known(peers); err != nil {
		return ctl.Rotation{}, err
	}
	if len(peers) == 0 {
		peers = []string{"alpha", "beta"}
	}
	var rotation ctl.Rotation
	for _, name := range peers {
		rotation.Results = append(rotation.Results, f.result(name))
	}
	return rotation, nil
}

func (f *fakeTund) result(name string) ctl.PeerResult {
	zero, one, three := uint64(0), uint64(1), uint64(3)
	result := ctl.PeerResult{Peer: name, From: 4, To: 5, MS: 12, Result: ctl.ResultDone, Lost: &zero, LostRx: &zero, LostTx: &zero}
	switch {
	case name == "alpha":
		return ctl.PeerResult{Peer: name, Result: ctl.ResultRefused, Error: "no session"}
	case f.kind == "lossy":
		result.Lost, result.LostTx, result.LostRx = &three, &one, nil
		two := uint64(2)
		result.LostRx = &two
	case f.kind == "blind":
		result.Lost, result.LostTx, result.LostRx = nil, nil, nil
	}
	return result
}

func (f *fakeTund) RotateKey(ctx context.Context, peers []string) (ctl.Rotation, error) {
	return f.rotate(ctx, peers)
}

func (f *fakeTund) RotateIV(ctx context.Context, peers []string) (ctl.Rotation, error) {
	return f.rotate(ctx, peers)
}

func (f *fakeTund) Up(ctx context.Context, peer string) error {
	switch {
	case f.kind == "slow":
		<-ctx.Done()
		return ctx.Err()
	case f.kind == "closed":
		return ctl.Errorf(ctl.CodeForbidden, "only root and members of group tund-admin may do this")
	case peer == "alpha":
		return ctl.Errorf(ctl.CodeState, "peer alpha is disabled")
	}
	return f.known([]string{peer})
}

func (f *fakeTund) Down(_ context.Context, peer string, both bool) (ctl.DownResult, error) {
	result := ctl.DownResult{State: ctl.StateDown, MS: 3}
	if peer == "beta" {
		result.Told, result.Acknowledged, result.StaysDown = true, true, both
	}
	return result, f.known([]string{peer})
}

func (f *fakeTund) Shutdown(_ context.Context, peer string) (ctl.DownResult, error) {
	if peer == "alpha" {
		return ctl.DownResult{}, ctl.Errorf(ctl.CodePeer, "peer alpha has not acknowledged the order")
	}
	return ctl.DownResult{Told: true, Acknowledged: f.kind != "deaf", MS: 3}, f.known([]string{peer})
}

func (f *fakeTund) StopKind(context.Context, ctl.StopKind) error { return nil }

// Restart lets another instance answer, after a look in which one tunnel is not settled; kind
// "stubborn" can't be replaced and says so late, "broken" at once.
func (f *fakeTund) Restart(context.Context) (ctl.RestartBegun, func(), error) {
	if f.kind == "broken" {
		return ctl.RestartBegun{}, nil, ctl.Errorf(ctl.CodeFailed, "not restarted: tund.toml:12: peer.beta.mtu: 70 is too small")
	}
	return ctl.RestartBegun{Version: "1.2.3", Instance: "aa"}, func() { f.looks.Store(1) }, nil
}

// restarted changes the status to that after a restart.
func (f *fakeTund) restarted(s *ctl.Status) {
	s.Node.Instance = "aa"
	looks := f.looks.Load()
	switch {
	case looks == 0:
		return
	case f.kind == "stubborn":
		s.Node.RestartError = "execute /usr/sbin/tund: exec format error"
		return
	}
	f.looks.Store(looks + 1)
	s.Node.Instance, s.Node.Version = "bb", "1.2.4"
	took := ctl.Takeover{Result: ctl.TakeoverResumed, GapMS: 61.7}
	if looks == 1 {
		took = ctl.Takeover{Result: ctl.TakeoverPending}
	}
	s.Peers[1].Takeover = &took
	if f.kind == "forgetful" {
		s.Peers[0].Takeover = &ctl.Takeover{Result: ctl.TakeoverFresh, Reason: "the child was killed"}
	}
}

func (f *fakeTund) Reload(context.Context) ctl.ReloadResult {
	switch strings.TrimPrefix(f.kind, "joined-") {
	case "unchanged":
		return ctl.ReloadResult{Result: ctl.ReloadUnchanged, Peers: []ctl.ReloadPeer{{Name: "beta", Action: ctl.ActionUnchanged}}}
	case "partly":
		return ctl.ReloadResult{Result: ctl.ReloadPartly, Peers: []ctl.ReloadPeer{
			{Name: "alpha", Action: ctl.ActionLive, Reason: "mtu, routes"},
			{Name: "beta", Action: ctl.ActionRefused, Reason: "open tap tap-beta: the device is busy"},
		}}
	case "missing":
		return ctl.ReloadResult{Result: ctl.ReloadPartly, Peers: []ctl.ReloadPeer{
			{Name: "beta", Action: ctl.ActionChild, Reason: "bridge", Missing: []string{"bridge br9: it does not exist"}},
		}, Missing: []string{"listen 192.0.2.1:7900: cannot assign requested address"}}
	case "refused":
		return ctl.ReloadResult{Result: ctl.ReloadRefused, Errors: []ctl.ConfigError{
			{File: "tund.toml", Line: 12, Key: "peer.beta.mtu", Message: "70 is too small"},
			{File: "peers.d/x.toml", Message: "permission denied"},
		}}
	}
	psk := `"/etc/tund/beta.psk"`
	return ctl.ReloadResult{
		Result: ctl.ReloadApplied,
		Peers: []ctl.ReloadPeer{
			{Name: "alpha", Action: ctl.ActionAdded},
			{Name: "beta", Action: ctl.ActionLive, Reason: "mtu, preshared_key_file", Changes: []ctl.ReloadChange{
				{Key: "mtu", From: `"auto"`, To: "1400"}, {Key: "preshared_key_file", From: psk, To: psk, Content: true},
			}},
		},
		Node: []ctl.ReloadChange{{Key: "reload", From: `"auto"`, To: `"manual"`}},
	}
}
