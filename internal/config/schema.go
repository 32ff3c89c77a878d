package config

import (
	"strconv"
	"time"
)

// Class says what a reload costs when a key has changed.
type Class string

// The classes.
const (
	Live   Class = "live"   // nothing: not one packet of any peer
	Child  Class = "child"  // this one peer's child process and device
	Listen Class = "listen" // the listener is bound anew; sessions and data go on
	Daemon Class = "daemon" // a restart of tund; no key has this class
)

// The tables that keys belong to.
const (
	tableNode = "node"
	tablePeer = "peer"
)

// Key describes one key of the configuration.
type Key struct {
	Table    string `json:"table"` // "node" or "peer"
	Name     string `json:"name"`
	Type     string `json:"type"`
	Class    Class  `json:"class"`
	Required bool   `json:"required,omitempty"`
	Default  string `json:"default,omitempty"` // in TOML; "": none, or Doc says it
	Doc      string `json:"doc"`
}

// field is a key with the code that reads it from TOML and writes it back.
type field[T any] struct {
	Key
	set func(v value, dst *T)
	get func(src *T) string // in TOML; "": not given
}

// Schema returns all keys, first those of [node], then those of [peer.NAME].
func Schema() []Key {
	all := make([]Key, 0, len(nodeFields)+len(peerFields))
	for _, f := range nodeFields {
		all = append(all, f.Key)
	}
	for _, f := range peerFields {
		all = append(all, f.Key)
	}
	return all
}

// Limits and defaults that more than one place needs.
const (
	minMTU     = 576  // an IPv4 host must take this much (RFC 791)
	minMTUIPv6 = 1280 // a link must carry this much for IPv6 (RFC 8200)
	maxMTU     = 65407
)

var nodeFields = []field[Node]{
	{
		Key: Key{
			Table: tableNode, Name: "private_key_file", Type: "path", Class: Live, Required: true,
			Doc: "This node's private key, made by tunctl genkey --write. The file's mode is 0600 or 0640, never more. " +
				"A new key means new sessions with all peers.",
		},
		set: func(v value, n *Node) { n.PrivateKeyFile = scalar(v, v.path) },
		get: func(n *Node) string { return quote(n.PrivateKeyFile) },
	},
	{
		Key: Key{
			Table: tableNode, Name: "listen", Type: "list of address:port", Class: Listen, Default: "[]",
			Doc: "Where peers may reach this node, with the same port for TCP (sessions) and UDP (data). " +
				"Without it this node only dials. An address that can't be had, since it is not there yet or another " +
				"program has the port, is tried again until it can; the others work meanwhile.",
		},
		set: func(v value, n *Node) { n.Listen = list(v, parseListen) },
		get: func(n *Node) string { return quoteList(n.Listen) },
	},
	{
		Key: Key{
			Table: tableNode, Name: "reload", Type: "string", Class: Live, Default: `"auto"`,
			Doc: `"auto" loads these files when they change, "manual" only at tunctl reload or SIGHUP.`,
		},
		set: func(v value, n *Node) { n.Reload = scalar(v, oneOf(ReloadAuto, ReloadManual)) },
		get: func(n *Node) string { return quote(n.Reload) },
	},
	{
		Key: Key{
			Table: tableNode, Name: "aead", Type: "list of strings", Class: Live, Default: "[]",
			Doc: `The ciphers that may be used, in order of preference: "aes-256-gcm", "chacha20-poly1305". ` +
				"Empty means both, AES first, where the CPU has instructions for AES, and ChaCha20-Poly1305 alone elsewhere.",
		},
		set: func(v value, n *Node) { n.AEAD = list(v, parseAEAD) },
		get: func(n *Node) string { return quoteList(n.AEAD) },
	},
	{
		Key: Key{
			Table: tableNode, Name: "engine", Type: "string", Class: Child, Default: `"auto"`,
			Doc: `What computes AES-256-GCM: "go" is the standard library, "ipsec-mb" Intel's IPsec Multi-Buffer ` +
				`library, which is faster and is loaded if it is installed and the CPU is fit; "auto" takes the faster one. ` +
				"Where it cannot be used, tund says why and uses the standard library. All peers' children are made anew.",
		},
		set: func(v value, n *Node) { n.Engine = scalar(v, oneOf(EngineAuto, EngineGo, EngineIPsecMB)) },
		get: func(n *Node) string { return quote(n.Engine) },
	},
	{
		Key: Key{
			Table: tableNode, Name: "sandbox", Type: "string", Class: Child, Default: `"required"`,
			Doc: `"required" runs no peer's child on a kernel that can't lock it in with Landlock and seccomp: the peer says ` +
				`so. "best-effort" runs it with what the kernel has; tunctl status PEER shows what it lacks. ` +
				"All peers' children are made anew.",
		},
		set: func(v value, n *Node) { n.Sandbox = scalar(v, oneOf(SandboxRequired, SandboxBestEffort)) },
		get: func(n *Node) string { return quote(n.Sandbox) },
	},
}

var peerFields = []field[Peer]{
	{
		Key: Key{
			Table: tablePeer, Name: "public_key", Type: "key", Class: Child, Required: true,
			Doc: "The peer's public key, as its tunctl pubkey prints it. Another key is another peer.",
		},
		set: func(v value, p *Peer) { p.PublicKey = scalar(v, parsePublicKey) },
		get: func(p *Peer) string { return quote(p.PublicKey.String()) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "endpoints", Type: "list of host:port", Class: Live, Default: "[]",
			Doc: "Where to dial the peer, tried in turn; names are resolved again at every try. " +
				"Empty means that the peer dials this node.",
		},
		set: func(v value, p *Peer) { p.Endpoints = list(v, ParseEndpoint) },
		get: func(p *Peer) string { return quoteList(p.Endpoints) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "mode", Type: "string", Class: Child, Default: `"tun"`,
			Doc: `"tun" carries IP packets, "tap" Ethernet frames. Both ends must have the same. ` +
				"The MAC address of a TAP device follows from the public keys of both nodes: it is the same each time, " +
				"and begins with fe, so that a bridge prefers the address of any other port. A device that was there before keeps its own.",
		},
		set: func(v value, p *Peer) { p.Mode = scalar(v, oneOf(ModeTUN, ModeTAP)) },
		get: func(p *Peer) string { return quote(p.Mode) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "interface", Type: "string", Class: Child,
			Doc: "The name of the device. Default: the mode, a hyphen and the peer's name, cut to 15 bytes.",
		},
		set: func(v value, p *Peer) { p.Interface = scalar(v, parseInterface) },
		get: func(p *Peer) string { return quoteSet(p.Interface) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "addresses", Type: "list of address/length", Class: Live, Default: "[]",
			Doc: "This node's addresses on the device. The same host address (/32, /128) and the same link-local network " +
				"may be on several peers' devices, as on unnumbered links; wider networks of two peers may not overlap. tunctl " +
				"check, tunctl status and the log warn of an address that lies in the network of another interface.",
		},
		set: func(v value, p *Peer) { p.Addresses = list(v, ParseAddress) },
		get: func(p *Peer) string { return quoteList(p.Addresses) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "peer_address", Type: "address", Class: Live,
			Doc: "The peer's address, for a point-to-point device. It needs exactly one address of the same family in addresses.",
		},
		set: func(v value, p *Peer) { p.PeerAddress = scalar(v, parsePeerAddress) },
		get: func(p *Peer) string {
			if !p.PeerAddress.IsValid() {
				return ""
			}
			return quote(p.PeerAddress.String())
		},
	},
	{
		Key: Key{
			Table: tablePeer, Name: "routes", Type: "list of networks", Class: Live, Default: "[]",
			Doc: "Networks behind the peer. The routes are put back if something removes them, and where another " +
				"route is in the way, they are added when that one goes. " +
				"None may cover an endpoint of any peer: it would swallow the tunnel itself.",
		},
		set: func(v value, p *Peer) { p.Routes = list(v, parseNetwork) },
		get: func(p *Peer) string { return quoteList(p.Routes) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "allowed_ips", Type: "list of networks", Class: Live, Default: "[]",
			Doc: "The source addresses that inner packets of the peer may have; packets with others are dropped and " +
				"counted. Empty means the networks of addresses, peer_address and routes of this peer, and those that " +
				"IPv6 itself uses on every link, fe80::/10 and the unspecified address. [\"any\"] allows every source " +
				"address. Only in mode \"tun\"; in mode \"tap\" nothing is filtered.",
		},
		set: func(v value, p *Peer) { p.AllowedIPs = v.allowed() },
		get: func(p *Peer) string { return p.AllowedIPs.text() },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "bridge", Type: "string", Class: Child,
			Doc: "A bridge that the device joins, also when the bridge comes later, or is made anew. Only in mode \"tap\".",
		},
		set: func(v value, p *Peer) { p.Bridge = scalar(v, parseInterface) },
		get: func(p *Peer) string { return quoteSet(p.Bridge) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "mtu", Type: `"auto" or integer`, Class: Live, Default: `"auto"`,
			Doc: "The device's MTU, from 1280 to 65407; from 576 where the peer has no IPv6 address or route. " +
				"\"auto\" follows the path to the peer.",
		},
		set: func(v value, p *Peer) { p.MTU = v.mtu() },
		get: func(p *Peer) string {
			if p.MTU == 0 {
				return `"auto"`
			}
			return strconv.Itoa(p.MTU)
		},
	},
	{
		Key: Key{
			Table: tablePeer, Name: "queue", Type: "integer", Class: Child, Default: "1000",
			Doc: "The length of the device's queue in packets, from 16 to 100000.",
		},
		set: func(v value, p *Peer) { p.Queue = v.integer(16, 100_000) },
		get: func(p *Peer) string { return strconv.Itoa(p.Queue) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "offload", Type: "string", Class: Child, Default: `"auto"`,
			Doc: `"auto" lets the kernel hand over and take many packets at once, as far as it can; "off" moves ` +
				"packets one by one.",
		},
		set: func(v value, p *Peer) { p.Offload = scalar(v, oneOf(OffloadAuto, OffloadOff)) },
		get: func(p *Peer) string { return quote(p.Offload) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "preshared_key_file", Type: "path", Class: Live,
			Doc: "A second secret that both ends share, made by tunctl genpsk --write; mode 0600 or 0640. " +
				"A changed file means a new epoch at once.",
		},
		set: func(v value, p *Peer) { p.PresharedKeyFile = scalar(v, v.path) },
		get: func(p *Peer) string { return quoteSet(p.PresharedKeyFile) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "rekey_interval", Type: "duration", Class: Live, Default: `"2m"`,
			Doc: "How often the data keys change, from \"10s\" to \"24h\".",
		},
		set: func(v value, p *Peer) { p.RekeyInterval = v.duration(10*time.Second, 24*time.Hour) },
		get: func(p *Peer) string { return quote(durationText(p.RekeyInterval)) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "keepalive", Type: "duration", Class: Live, Default: `"25s"`,
			Doc: "After how much silence a keepalive is sent, from \"1s\" to \"10m\".",
		},
		set: func(v value, p *Peer) { p.Keepalive = v.duration(time.Second, 10*time.Minute) },
		get: func(p *Peer) string { return quote(durationText(p.Keepalive)) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "key_lifetime", Type: "duration", Class: Live, Default: `"1h"`,
			Doc: "How long data flows under the last keys when the session is lost, up to \"168h\"; then the peer is down. " +
				"At least rekey_interval.",
		},
		set: func(v value, p *Peer) { p.KeyLifetime = v.duration(10*time.Second, 7*24*time.Hour) },
		get: func(p *Peer) string { return quote(durationText(p.KeyLifetime)) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "accept_stay_down", Type: "boolean", Class: Live, Default: "true",
			Doc: "Whether the peer may ask this node to keep the tunnel down until tunctl up.",
		},
		set: func(v value, p *Peer) { p.AcceptStayDown = v.boolean() },
		get: func(p *Peer) string { return strconv.FormatBool(p.AcceptStayDown) },
	},
	{
		Key: Key{
			Table: tablePeer, Name: "enabled", Type: "boolean", Class: Live, Default: "true",
			Doc: "Whether the tunnel runs. A disabled peer is checked like any other.",
		},
		set: func(v value, p *Peer) { p.Enabled = v.boolean() },
		get: func(p *Peer) string { return strconv.FormatBool(p.Enabled) },
	},
}

// names returns the keys of a table.
func names[T any](fields []field[T]) []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	return all
}
