package lab

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Status is what "tunctl status --json" prints, as the manual promises it.
type Status struct {
	Schema int `json:"schema"`
	Node   struct {
		Name      string  `json:"name"`
		PublicKey string  `json:"public_key"`
		Version   string  `json:"version"`
		PID       int     `json:"pid"`
		UptimeS   float64 `json:"uptime_s"`
		Config    struct {
			Path     string    `json:"path"`
			LoadedAt time.Time `json:"loaded_at"`
			Error    string    `json:"error"`
		} `json:"config"`
		Instance     string            `json:"instance"`
		RestartError string            `json:"restart_error"`
		Drops        map[string]uint64 `json:"drops"`
		Refused      map[string]uint64 `json:"refused"`
	} `json:"node"`
	Peers []PeerStatus `json:"peers"`
}

// PeerStatus is one peer in it.
type PeerStatus struct {
	Name         string            `json:"name"`
	State        string            `json:"state"`
	Interface    string            `json:"interface"`
	Mode         string            `json:"mode"`
	ChildPID     int               `json:"child_pid"`
	Endpoint     string            `json:"endpoint"`
	Transport    string            `json:"transport"`
	Epoch        uint32            `json:"epoch"`
	IVGeneration uint32            `json:"iv_generation"`
	RxBytes      uint64            `json:"rx_bytes"`
	TxBytes      uint64            `json:"tx_bytes"`
	RxPackets    uint64            `json:"rx_packets"`
	TxPackets    uint64            `json:"tx_packets"`
	Drops        map[string]uint64 `json:"drops"`
	RTTms        *float64          `json:"rtt_ms"`
	Loss         *float64          `json:"loss"`
	MTU          int               `json:"mtu"`
	AEAD         string            `json:"aead"`
	Engine       string            `json:"engine"`
	Offload      []string          `json:"offload"`
	Sandbox      []string          `json:"sandbox"`
	SandboxLacks []string          `json:"sandbox_lacks"`
	Since        time.Time         `json:"since"`
	StateAgeS    float64           `json:"state_age_s"`
	EpochAgeS    float64           `json:"epoch_age_s"`
	Restarts     uint64            `json:"restarts"`
	LastError    string            `json:"last_error"`
	Takeover     *Takeover         `json:"takeover"`

	ExchangesFailed uint64   `json:"exchanges_failed"`
	Warnings        []string `json:"warnings"`
}

// Takeover says what became of a tunnel at the restart of a tund; nil: nothing was left.
type Takeover struct {
	Result string  `json:"result"`
	Reason string  `json:"reason"`
	GapMS  float64 `json:"gap_ms"`
}

// Rotation is what "tunctl rotate-key --json" and "rotate-iv --json" print.
type Rotation struct {
	Schema  int `json:"schema"`
	Results []struct {
		Peer   string  `json:"peer"`
		From   uint32  `json:"from"`
		To     uint32  `json:"to"`
		MS     float64 `json:"ms"`
		Result string  `json:"result"`
		Error  string  `json:"error"`
		Lost   *uint64 `json:"lost"`
	} `json:"results"`
}

// Reload is what "tunctl reload --json" prints.
type Reload struct {
	Schema int    `json:"schema"`
	Result string `json:"result"`
	Peers  []struct {
		Name   string `json:"name"`
		Action string `json:"action"`
		Reason string `json:"reason"`
	} `json:"peers"`
	Errors []struct {
		File    string `json:"file"`
		Line    int    `json:"line"`
		Key     string `json:"key"`
		Message string `json:"message"`
	} `json:"errors"`
}

// Action returns what the reload did to a peer, "" if it does not say.
func (r Reload) Action(peer string) string {
	for _, p := range r.Peers {
		if p.Name == peer {
			return p.Action
		}
	}
	return ""
}

// Status returns what tunctl shows of the node; a failure is fatal.
func (n *Node) Status() Status {
	n.lab.tb.Helper()
	status, err := n.TryStatus()
	if err != nil {
		n.lab.tb.Fatalf("%v", err)
	}
	return status
}

// TryStatus returns what tunctl shows of the node. It may be called from any goroutine.
func (n *Node) TryStatus() (Status, error) {
	var status Status
	r := n.Ctl("status", "--json")
	if r.Code != 0 {
		return status, fmt.Errorf("node %s: tunctl status: exit %d: %s", n.Name, r.Code, r.Stderr)
	}
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil {
		return status, fmt.Errorf("node %s: tunctl status: %w: %s", n.Name, err, r.Stdout)
	}
	return status, nil
}

// Peer returns the status of one peer of the node; ok is false if there is no such peer.
func (n *Node) Peer(name string) (peer PeerStatus, ok bool) {
	n.lab.tb.Helper()
	for _, peer := range n.Status().Peers {
		if peer.Name == name {
			return peer, true
		}
	}
	return PeerStatus{}, false
}

// MustPeer returns the status of one peer of the node, which must exist.
func (n *Node) MustPeer(name string) PeerStatus {
	n.lab.tb.Helper()
	peer, ok := n.Peer(name)
	if !ok {
		n.lab.tb.Fatalf("node %s: status shows no peer %s", n.Name, name)
	}
	return peer
}

// WaitPeer waits until the status of a peer of the node is as wanted, and returns it.
func (n *Node) WaitPeer(name string, limit time.Duration, what string, wanted func(PeerStatus) bool) PeerStatus {
	n.lab.tb.Helper()
	var last PeerStatus
	start := time.Now()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		peer, ok := n.Peer(name)
		if last = peer; ok && wanted(peer) {
			return peer
		}
		if time.Since(start) > limit {
			n.lab.tb.Fatalf("node %s: peer %s: not within %v: %s; state %q, epoch %d, generation %d, last error %q, drops %v",
				n.Name, name, limit, what, last.State, last.Epoch, last.IVGeneration, last.LastError, last.Drops)
		}
		<-ticker.C
	}
}

// WaitTakeover waits until a tund knows what became of a peer's tunnel when it started, and
// returns that; nil: nothing was left of one.
func (n *Node) WaitTakeover(peer string, limit time.Duration) *Takeover {
	n.lab.tb.Helper()
	return n.WaitPeer(peer, limit, "taken over or not", func(p PeerStatus) bool {
		return p.Takeover == nil || p.Takeover.Result != "pending"
	}).Takeover
}

// WaitState waits until a peer of the node is in a state.
func (n *Node) WaitState(peer, state string, limit time.Duration) PeerStatus {
	n.lab.tb.Helper()
	return n.WaitPeer(peer, limit, "state "+state, func(p PeerStatus) bool { return p.State == state })
}

// CtlJSON runs a verb of tunctl with --json and decodes its output into result. It
// returns the exit code; output that is not JSON is fatal.
func (n *Node) CtlJSON(result any, args ...string) int {
	n.lab.tb.Helper()
	r := n.Ctl(append(args, "--json")...)
	if err := json.Unmarshal([]byte(r.Stdout), result); err != nil {
		n.lab.tb.Fatalf("node %s: tunctl %s: exit %d: %v: %s%s",
			n.Name, strings.Join(args, " "), r.Code, err, r.Stdout, r.Stderr)
	}
	return r.Code
}
