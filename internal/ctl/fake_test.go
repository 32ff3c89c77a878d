package ctl

import (
	"context"
	"sync"
	"time"
)

// call is one call that reached a fakeBackend.
type call struct {
	Method string
	Peers  []string
	Both   bool
	Kind   StopKind
}

// fakeBackend knows the peers alpha and beta, and writes down what it was asked.
type fakeBackend struct {
	// wait, when not nil, holds every call until it is closed or ctx is done.
	wait chan struct{}

	mu    sync.Mutex
	calls []call
}

func (b *fakeBackend) enter(ctx context.Context, c call) error {
	b.mu.Lock()
	b.calls = append(b.calls, c)
	b.mu.Unlock()
	if b.wait == nil {
		return nil
	}
	select {
	case <-b.wait:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *fakeBackend) seen() []call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]call(nil), b.calls...)
}

func (b *fakeBackend) Restart(ctx context.Context) (RestartBegun, func(), error) {
	begin := func() { _ = b.enter(context.Background(), call{Method: "begin"}) }
	return RestartBegun{Version: "1.2.3", Instance: "0a0b"}, begin, b.enter(ctx, call{Method: "Restart"})
}

func (b *fakeBackend) StopKind(ctx context.Context, kind StopKind) error {
	return b.enter(ctx, call{Method: "StopKind", Kind: kind})
}

func known(peers []string) error {
	all := []string{"alpha", "beta"}
	for _, name := range peers {
		if name != all[0] && name != all[1] {
			return UnknownPeer(name, all)
		}
	}
	return nil
}

func (b *fakeBackend) Status(ctx context.Context) (Status, error) {
	rtt, loss := 1.5, 0.25
	status := Status{
		Node: NodeStatus{
			Name: "here", PublicKey: "AAAA", PID: 7, UptimeS: 60, Listen: []string{"[::]:7900"},
			Config: ConfigStatus{Path: "/etc/tund/tund.toml", LoadedAt: time.Unix(1700000000, 0).UTC()},
			Drops:  NodeDrops{Stranger: 3}, Refused: Refused{Prelude: 1},
			RefusedKeys: []RefusedKey{{PublicKey: "BBBB", Endpoint: "192.0.2.9:40000", Last: time.Unix(1700000000, 0).UTC(), AgeS: 3, Count: 2}},
		},
		Peers: []PeerStatus{
			{Name: "alpha", State: StateConnecting, Mode: "tap", Interface: "tap-alpha", Since: time.Unix(1700000000, 0).UTC(), StateAgeS: 90, LastError: "connection refused\nby \x1b[1mit"},
			{
				Name: "beta", State: StateUp, Mode: "tun", Interface: "tun-beta", ChildPID: 8, Endpoint: "192.0.2.1:7900",
				Transport: "udp", Epoch: 4, IVGeneration: 1, EpochAgeS: 30, RxBytes: 1000, TxBytes: 2000, RxPackets: 10, TxPackets: 20,
				Drops: Drops{Replay: 1}, Lost: 2, RTTms: &rtt, Loss: &loss, MTU: 1420, AEAD: "aes-256-gcm", Engine: "go",
				Since: time.Unix(1700000030, 0).UTC(), StateAgeS: 60, Restarts: 1, ExchangesFailed: 2,
			},
		},
	}
	return status, b.enter(ctx, call{Method: "Status"})
}

func (b *fakeBackend) rotate(ctx context.Context, method string, peers []string) (Rotation, error) {
	if err := b.enter(ctx, call{Method: method, Peers: peers}); err != nil {
		return Rotation{}, err
	}
	if err := known(peers); err != nil {
		return Rotation{}, err
	}
	var r Rotation
	for _, name := range peers {
		r.Results = append(r.Results, PeerResult{Peer: name, From: 4, To: 5, MS: 12, Result: ResultDone, Lost: new(uint64)})
	}
	return r, nil
}

func (b *fakeBackend) RotateKey(ctx context.Context, peers []string) (Rotation, error) {
	return b.rotate(ctx, "RotateKey", peers)
}

func (b *fakeBackend) RotateIV(ctx context.Context, peers []string) (Rotation, error) {
	return b.rotate(ctx, "RotateIV", peers)
}

func (b *fakeBackend) Up(ctx context.Context, peer string) error {
	if err := b.enter(ctx, call{Method: "Up", Peers: []string{peer}}); err != nil {
		return err
	}
	if peer == "alpha" {
		return Errorf(CodeState, "peer alpha is disabled")
	}
	return known([]string{peer})
}

func (b *fakeBackend) Down(ctx context.Context, peer string, both bool) (DownResult, error) {
	err := b.enter(ctx, call{Method: "Down", Peers: []string{peer}, Both: both})
	if err == nil {
		err = known([]string{peer})
	}
	return DownResult{Told: true, Acknowledged: true, StaysDown: both, MS: 3}, err
}

func (b *fakeBackend) Shutdown(ctx context.Context, peer string) (DownResult, error) {
	err := b.enter(ctx, call{Method: "Shutdown", Peers: []string{peer}})
	if err == nil {
		err = known([]string{peer})
	}
	return DownResult{Told: true, Acknowledged: true, MS: 3}, err
}

func (b *fakeBackend) Reload(ctx context.Context) ReloadResult {
	_ = b.enter(ctx, call{Method: "Reload"})
	return ReloadResult{Result: ReloadUnchanged}
}
