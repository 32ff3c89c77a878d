package ctl

import (
	"context"
	"time"
)

// The requests on the control socket. Each arrow is one HTTP request; the
// indented one is its reply, always one JSON object.
//
//	[ tunctl ]                                  [ tund ]
//	GET  /v1/version                      -->            read
//	                                      <--  Version
//	GET  /v1/status                       -->            read
//	                                      <--  Status
//	POST /v1/peers/{name}/rotate-key      -->            write
//	POST /v1/peers/{name}/rotate-iv       -->            write
//	POST /v1/rotate-key {peers}           -->            write; without peers: all
//	POST /v1/rotate-iv  {peers}           -->            write; without peers: all
//	                                      <--  Rotation
//	POST /v1/peers/{name}/up              -->            write
//	                                      <--  UpResult
//	POST /v1/peers/{name}/down {both}     -->            write
//	POST /v1/peers/{name}/shutdown        -->            write
//	                                      <--  DownResult
//	POST /v1/reload                       -->            write
//	                                      <--  ReloadResult
//	POST /v1/restart                      -->            write
//	                                      <--  RestartBegun, then another tund answers
//	POST /v1/stop-kind {kind}             -->            write; what the next SIGTERM is for
//	                                      <--  StopKindResult
//	(any of them)                         -->
//	                                      <--  ErrorReply, and a status of 4xx or 5xx
//
// All but version take ?timeout=DURATION; the request is given up after it, as it
// is when the caller closes the connection.

// Schema is the version of the JSON objects. Fields are only ever added; increase
// it when one changes its meaning or goes.
const Schema = 1

// DefaultSocket is where tund listens when it is told nothing else.
const DefaultSocket = "/run/tund/tund.sock"

// Backend does what the requests ask for. All methods must be safe for
// concurrent use and must return soon after ctx is done: it is done when the
// caller goes away, its time-out is over, or the server stops.
//
// An error that is an [*Error] reaches the caller as it is; any other becomes
// code "failed" (or "timeout", for [context.DeadlineExceeded]) with its text.
// A name that is not a peer's is answered with [UnknownPeer].
type Backend interface {
	// Status describes the node and all its peers, sorted by name.
	Status(ctx context.Context) (Status, error)

	// RotateKey agrees on a new epoch with each of the peers and waits until both
	// ends use it. An empty list means every peer that is enabled. The error is
	// for requests of which nothing was begun; what went wrong with one of
	// several peers stands in its result.
	RotateKey(ctx context.Context, peers []string) (Rotation, error)
	// RotateIV is RotateKey for the generation of initialisation vectors.
	RotateIV(ctx context.Context, peers []string) (Rotation, error)

	// Up lets a peer that is down connect again, waits until it is up, and clears
	// an order of the other side to stay down.
	Up(ctx context.Context, peer string) error
	// Down closes a peer's tunnel and keeps it closed until Up; the other side is
	// told where there is a session. With both, it is asked to stay down too.
	Down(ctx context.Context, peer string, both bool) (DownResult, error)
	// Shutdown orders the other side to close its end and waits for it to say so.
	Shutdown(ctx context.Context, peer string) (DownResult, error)

	// Reload loads the configuration again and applies what changed.
	Reload(ctx context.Context) ReloadResult

	// Restart looks whether this tund can be replaced by its program anew. If so, begin is
	// called once the reply is under way; what goes wrong after that shows in the status of
	// the node, which goes on.
	Restart(ctx context.Context) (r RestartBegun, begin func(), err error)
	// StopKind notes what the SIGTERM that follows is for.
	StopKind(ctx context.Context, kind StopKind) error
}

// State is what a peer is doing, in the word that status shows.
type State string

// The states of a peer.
const (
	StateDisabled       State = "disabled"       // enabled = false
	StateDown           State = "down"           // by order, or the other side has closed
	StateResolving      State = "resolving"      // asking for the addresses of its endpoints
	StateConnecting     State = "connecting"     // TCP, or waiting for the peer to dial us
	StateAuthenticating State = "authenticating" // TLS, HELLO, first key
	StateUp             State = "up"             // packets flow
	StateDegraded       State = "degraded"       // packets may flow, but something is missing
	StateRekeying       State = "rekeying"       // packets flow, a new epoch is being agreed on
)

// States returns all states in the order of a peer's life.
func States() []State {
	return []State{
		StateDisabled, StateDown, StateResolving, StateConnecting,
		StateAuthenticating, StateUp, StateDegraded, StateRekeying,
	}
}

// Version is the reply to the request of that name.
type Version struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"`
}

// Status is the node and all its peers.
type Status struct {
	Schema int          `json:"schema"`
	Node   NodeStatus   `json:"node"`
	Peers  []PeerStatus `json:"peers"` // sorted by name
}

// NodeStatus is the daemon as a whole.
type NodeStatus struct {
	Name      string       `json:"name"`
	PublicKey string       `json:"public_key"` // base64
	Version   string       `json:"version"`    // filled in by the server when empty
	PID       int          `json:"pid"`
	UptimeS   int64        `json:"uptime_s"`
	Config    ConfigStatus `json:"config"`
	Listen    []string     `json:"listen"`  // addresses really bound
	Missing   []string     `json:"missing"` // those that can't be had now, and why; tried again
	Drops     NodeDrops    `json:"drops"`   // datagrams that reached no child
	Refused   Refused      `json:"refused"` // control connections, by the step that failed
	// RefusedKeys are public keys that have proven themselves and are no peer's: the last few, the latest first.
	RefusedKeys []RefusedKey `json:"refused_keys"`

	Instance     string `json:"instance"`      // another one with each start of the program, and each clone of its machine
	RestartError string `json:"restart_error"` // why the last restart that was asked for did not happen; "": none failed
}

// ConfigStatus is the configuration in force.
type ConfigStatus struct {
	Path     string    `json:"path"`
	LoadedAt time.Time `json:"loaded_at"` // by the clock as it is set now
	Error    string    `json:"error"`     // why the file as it is now was not taken; "" when it was
}

// NodeDrops counts datagrams that reached no child.
type NodeDrops struct {
	Stranger uint64 `json:"stranger"` // from an address that is no peer's
}

// Refused counts control connections by the step at which they were refused.
type Refused struct {
	Prelude    uint64 `json:"prelude"`
	Replay     uint64 `json:"replay"`
	TLS        uint64 `json:"tls"`
	UnknownKey uint64 `json:"unknown_key"`
	Limit      uint64 `json:"limit"`
}

// RefusedKey is a node that would be a peer if its key were configured.
type RefusedKey struct {
	PublicKey string    `json:"public_key"` // base64
	Endpoint  string    `json:"endpoint"`   // where its last connection came from
	Last      time.Time `json:"last"`       // by the clock as it was set then
	AgeS      int64     `json:"age_s"`      // how long ago that was
	Count     uint64    `json:"count"`      // of its connections
}

// PeerStatus is one peer. Counters of packets are those of its present child.
type PeerStatus struct {
	Name         string    `json:"name"`
	State        State     `json:"state"`
	Interface    string    `json:"interface"`
	Mode         string    `json:"mode"`      // "tun" or "tap"
	ChildPID     int       `json:"child_pid"` // 0: no child
	Endpoint     string    `json:"endpoint"`  // "": none known
	Transport    string    `json:"transport"` // "udp", or "" while no data can flow
	Epoch        uint32    `json:"epoch"`     // 0: none yet
	IVGeneration uint32    `json:"iv_generation"`
	EpochAgeS    int64     `json:"epoch_age_s"`
	RxBytes      uint64    `json:"rx_bytes"`
	TxBytes      uint64    `json:"tx_bytes"`
	RxPackets    uint64    `json:"rx_packets"`
	TxPackets    uint64    `json:"tx_packets"`
	Drops        Drops     `json:"drops"`
	Lost         uint64    `json:"lost"`   // packets the peer sent in this session that did not arrive
	RTTms        *float64  `json:"rtt_ms"` // null: not measured
	Loss         *float64  `json:"loss"`   // their share of all it sent, 0..1; null: it sent none
	MTU          int       `json:"mtu"`
	AEAD         string    `json:"aead"` // "": no key yet
	Engine       string    `json:"engine"`
	Offload      []string  `json:"offload"`
	Sandbox      []string  `json:"sandbox"`       // what confines the child
	SandboxLacks []string  `json:"sandbox_lacks"` // what should as well, and can't
	Since        time.Time `json:"since"`         // when the peer came into this state, by the clock as it is set now; rekeying is up
	StateAgeS    int64     `json:"state_age_s"`
	Restarts     uint64    `json:"restarts"`
	LastError    string    `json:"last_error"` // "": none
	Missing      []string  `json:"missing"`    // parts of the device's settings that can't be had now, and why; tried again
	Takeover     *Takeover `json:"takeover"`   // null: this tund has made the tunnel

	// ExchangesFailed counts tries to agree on new keys or IVs that came to nothing, since the
	// start of this tund.
	ExchangesFailed uint64 `json:"exchanges_failed"`
	// Warnings are what an administrator should look at though the tunnel may work.
	Warnings []string `json:"warnings"`
}

// TakeoverResult is what came of a tunnel that an earlier tund has left.
type TakeoverResult string

// The results of taking a tunnel over.
const (
	TakeoverPending TakeoverResult = "pending"
	TakeoverResumed TakeoverResult = "resumed" // with its keys: nothing is lost
	TakeoverFresh   TakeoverResult = "fresh"   // with a new epoch; see Reason
)

// Takeover says how a tunnel came from an earlier tund to this one.
type Takeover struct {
	Result TakeoverResult `json:"result"`
	Reason string         `json:"reason"` // why it was not resumed
	GapMS  float64        `json:"gap_ms"` // how long its packets waited; 0: not known
}

// Drops counts packets that a child threw away, by reason.
type Drops struct {
	Auth      uint64 `json:"auth"`      // did not authenticate
	Replay    uint64 `json:"replay"`    // seen before, or too old to tell
	Malformed uint64 `json:"malformed"` // not a datagram of ours, or not a packet
	Unknown   uint64 `json:"unknown"`   // an index of no key that is installed
	Queue     uint64 `json:"queue"`     // too much waited: a full socket, or early loss of bulk traffic
	Source    uint64 `json:"source"`    // inner source address not in allowed_ips
	Device    uint64 `json:"device"`    // the device refused the packet
	Send      uint64 `json:"send"`      // the socket refused the datagram
	NoKey     uint64 `json:"no_key"`    // nothing to seal with yet
}

// Result is how one peer's part of a request ended.
type Result string

// The results of a rotation.
const (
	ResultDone    Result = "done"
	ResultRefused Result = "refused" // the other side, or the state, did not allow it
	ResultFailed  Result = "failed"
)

// Rotation is the reply to rotate-key and rotate-iv: a result for each peer asked for.
type Rotation struct {
	Schema  int          `json:"schema"`
	Results []PeerResult `json:"results"`
}

// PeerResult is the rotation of one peer's epoch or generation.
type PeerResult struct {
	Peer   string  `json:"peer"`
	From   uint32  `json:"from"` // epoch or generation before
	To     uint32  `json:"to"`   // and after; the same when it did not change
	MS     int64   `json:"ms"`
	Result Result  `json:"result"`
	Error  string  `json:"error"` // "" when done
	Lost   *uint64 `json:"lost"`  // packets lost while it ran, both ways; null: unknown
	LostRx *uint64 `json:"lost_rx"`
	LostTx *uint64 `json:"lost_tx"`
}

// UpResult is the reply to up, once the peer is.
type UpResult struct {
	Schema int    `json:"schema"`
	Peer   string `json:"peer"`
	State  State  `json:"state"`
}

// DownResult is the reply to down and shutdown.
type DownResult struct {
	Schema       int    `json:"schema"`
	Peer         string `json:"peer"`
	State        State  `json:"state"`        // of our end, now
	Told         bool   `json:"told"`         // there was a session to tell the other side by
	Acknowledged bool   `json:"acknowledged"` // the other side has closed its end
	StaysDown    bool   `json:"stays_down"`   // and stays down until its administrator's up
	MS           int64  `json:"ms"`
}

// ReloadOutcome is how a reload ended as a whole.
type ReloadOutcome string

// The outcomes of a reload.
const (
	ReloadApplied   ReloadOutcome = "applied"
	ReloadUnchanged ReloadOutcome = "unchanged"
	ReloadPartly    ReloadOutcome = "partly"  // applied but for the peers with action "refused", and for what is missing
	ReloadRefused   ReloadOutcome = "refused" // nothing has changed; see Errors
)

// ReloadAction is what a reload did to one peer.
type ReloadAction string

// The actions of a reload.
const (
	ActionUnchanged ReloadAction = "unchanged"
	ActionLive      ReloadAction = "live"  // applied without losing a packet
	ActionChild     ReloadAction = "child" // child and device are new
	ActionAdded     ReloadAction = "added"
	ActionRemoved   ReloadAction = "removed"
	ActionRefused   ReloadAction = "refused"
)

// ReloadResult is the reply to reload.
type ReloadResult struct {
	Schema int           `json:"schema"`
	Result ReloadOutcome `json:"result"`
	Peers  []ReloadPeer  `json:"peers"`  // sorted by name
	Errors []ConfigError `json:"errors"` // what is wrong with the configuration
	// Missing are listeners that can't be had now, and why; they are tried again.
	Missing []string `json:"missing"`

	Node []ReloadChange `json:"node"` // keys of the node that have changed
}

// ReloadPeer is what a reload did to one peer.
type ReloadPeer struct {
	Name   string       `json:"name"`
	Action ReloadAction `json:"action"`
	Reason string       `json:"reason"` // the keys that changed, or why it was refused
	// Missing is what of it can't be had now, and why; it is tried again.
	Missing []string `json:"missing"`

	Changes []ReloadChange `json:"changes"` // each of these keys; of a peer that was refused: none
}

// ReloadChange is one key that has changed. Of secrets it has the path of the file alone.
type ReloadChange struct {
	Key     string `json:"key"`
	From    string `json:"from"` // in TOML, what differs of long values; "": not given
	To      string `json:"to"`
	Content bool   `json:"content"` // the file is the same, and its content has changed
}

// ConfigError is one thing that is wrong with the configuration.
type ConfigError struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0: the file as a whole
	Key     string `json:"key"`
	Message string `json:"message"`
}

// rotateRequest is the body of a rotation of several peers.
type rotateRequest struct {
	Peers []string `json:"peers"`
}

// downRequest is the body of down.
type downRequest struct {
	Both bool `json:"both"`
}
