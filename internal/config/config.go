package config

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"tund/internal/keys"
)

// The values of node.reload.
const (
	ReloadAuto   = "auto"   // a changed file is loaded by itself
	ReloadManual = "manual" // only SIGHUP and tunctl reload load it
)

// The values of node.engine.
const (
	EngineAuto    = "auto"     // the fastest that this machine has
	EngineGo      = "go"       // the standard library
	EngineIPsecMB = "ipsec-mb" // Intel's IPsec Multi-Buffer library
)

// The values of node.sandbox.
const (
	SandboxRequired   = "required"    // no child runs without Landlock and seccomp
	SandboxBestEffort = "best-effort" // it runs with what there is
)

// The values of peer.NAME.offload.
const (
	OffloadAuto = "auto" // all that the kernel has
	OffloadOff  = "off"
)

// The values of peer.NAME.mode.
const (
	ModeTUN = "tun" // IP packets
	ModeTAP = "tap" // Ethernet frames
)

// Config is one accepted configuration. It is immutable and safe for concurrent use.
type Config struct {
	Path  string // of the main file, absolute
	Node  Node
	Peers []Peer // sorted by name

	// Files is everything that was read or looked for, absolute: what to watch. An
	// entry whose last element is "*.toml" stands for all such files in its directory.
	Files []string

	// Digest covers the contents of all files that were read, secrets included. Equal
	// digests mean that a reload would change nothing. Do not publish it.
	Digest [32]byte
}

// Node is the table [node].
type Node struct {
	PrivateKeyFile string           `toml:"private_key_file"`
	Listen         []netip.AddrPort `toml:"listen"`
	Reload         string           `toml:"reload"`
	AEAD           []keys.AEAD      `toml:"aead"` // in order of preference; empty: by CPU
	Engine         string           `toml:"engine"`
	Sandbox        string           `toml:"sandbox"`

	PrivateKey keys.Secret `toml:"-"` // the content of PrivateKeyFile; zero after Parse
}

// Peer is one table [peer.NAME].
type Peer struct {
	Name             string         `toml:"-"`
	PublicKey        keys.PublicKey `toml:"public_key"`
	Endpoints        []Endpoint     `toml:"endpoints"`
	Mode             string         `toml:"mode"`
	Interface        string         `toml:"interface"`
	Addresses        []netip.Prefix `toml:"addresses"`
	PeerAddress      netip.Addr     `toml:"peer_address"` // not valid: none
	Routes           []netip.Prefix `toml:"routes"`
	AllowedIPs       Allowed        `toml:"allowed_ips"`
	Bridge           string         `toml:"bridge"`
	MTU              int            `toml:"mtu"` // 0: automatic
	Queue            int            `toml:"queue"`
	Offload          string         `toml:"offload"`
	PresharedKeyFile string         `toml:"preshared_key_file"`
	RekeyInterval    time.Duration  `toml:"rekey_interval"`
	Keepalive        time.Duration  `toml:"keepalive"`
	KeyLifetime      time.Duration  `toml:"key_lifetime"`
	AcceptStayDown   bool           `toml:"accept_stay_down"`
	Enabled          bool           `toml:"enabled"`

	PresharedKey *keys.Secret `toml:"-"` // the content of PresharedKeyFile; nil: none
}

// Endpoint is where a peer can be dialled: a name or an IP address, and a port for
// TCP.
type Endpoint struct {
	Host string // an IPv6 address stands without brackets
	Port uint16
}

// String returns host:port, with brackets around an IPv6 address.
func (e Endpoint) String() string {
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// Addr returns the address, if the host is one and not a name.
func (e Endpoint) Addr() (netip.Addr, bool) {
	addr, err := netip.ParseAddr(e.Host)
	return addr, err == nil
}

// Peer returns the peer of a name.
func (c *Config) Peer(name string) (Peer, bool) {
	for i := range c.Peers {
		if c.Peers[i].Name == name {
			return c.Peers[i], true
		}
	}
	return Peer{}, false
}

// Wipe overwrites the secrets of a configuration that nobody uses any more.
func (c *Config) Wipe() {
	c.Node.PrivateKey.Wipe()
	for i := range c.Peers {
		if psk := c.Peers[i].PresharedKey; psk != nil {
			psk.Wipe()
		}
	}
}

// RouteCovering returns the most specific of all peers' routes that contains addr,
// and its peer. A peer must not be reached at an address that a route covers: the
// datagrams that carry the tunnel would go into a tunnel. Load has checked the
// endpoints that are addresses; who resolves a name checks the result with this.
func (c *Config) RouteCovering(addr netip.Addr) (peer string, route netip.Prefix, ok bool) {
	addr = addr.Unmap().WithZone("")
	for i := range c.Peers {
		for _, r := range c.Peers[i].Routes {
			if r.Contains(addr) && (!ok || r.Bits() > route.Bits()) {
				peer, route, ok = c.Peers[i].Name, r, true
			}
		}
	}
	return peer, route, ok
}
