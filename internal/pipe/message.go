package pipe

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"tund/internal/keys"
	"tund/internal/wire"
)

// Version is the version of this catalogue. Increase when a message changes.
const Version = 5

// The descriptors that a child inherits, by position.
const (
	FDIn     = 3 // messages from the parent
	FDOut    = 4 // messages to the parent
	FDDevice = 5 // the TUN or TAP device
	FDSocket = 6 // the UDP socket
)

// The messages between the parent and a data child. Each arrow is one message; an
// indented arrow answers the one above it.
//
//	[ parent ]                                   [ child ]
//	Hello{Version, PID}          -->
//	                                <--  Hello{Version, PID}
//	Configure{Seq, ...}          -->                 before any key; again on reload
//	                                <--  Configured{Seq}
//	KeyState{KeyID, ...}         -->                 each key of the child before, if Configure said so
//	Resume{Seq, ...}             -->                 and the rest of what it knew
//	                                <--  Resumed{Seq, Err}
//	InstallKey{KeyID, ...}       -->                 generation 0 of a new key
//	                                <--  Installed{KeyID, 0, Err}
//	InstallIV{KeyID, Generation} -->                 a further generation of that key
//	                                <--  Installed{KeyID, Generation, Err}
//	Activate{KeyID, Generation}  -->                 send with it from now on
//	Retire{KeyID, Generation}    -->                 wipe all that is older
//	Drop{KeyID, Generation}      -->                 wipe just this one
//	Displace{KeyID, Generation}  -->                 wipe it, unless it has come into use
//	                                <--  Displaced{KeyID, Generation, Kept}
//	Wipe{Seq}                    -->
//	                                <--  Wiped{Seq}
//	GetStats{Seq}                -->                 also the heartbeat
//	                                <--  Stats{Seq, ...}
//	SendProbe{ID}                -->
//	                                <--  ProbeResult{ID, ...}
//	HandOver{}                   -->                 the child sends nothing any more to the peer
//	                                <--  KeyState{KeyID, ...}            each key
//	                                <--  HandedOver{...}                 and the rest; it ends with status 0
//	Stop{}                       -->                 the child ends with status 0
//	                             <--  KeyActive{KeyID, Generation}   unasked: first authentic packet
//	                             <--  RekeyDue{KeyID, Reason}        unasked: a limit is near or reached
//	                             <--  Urgent{Thread}                 unasked: it carries bulk
//	                             <--  Fatal{Reason}                  unasked: the child ends
//	(pipe closed)                -->                 the child ends
//
// All messages are plain values, but for *KeyState. Those that carry key bytes have a
// Wipe method.

// Message is one of the messages of the catalogue.
type Message interface {
	// Type is the number that stands for this message on the pipe.
	Type() Type

	// appendBody appends the message's bytes without length and type.
	appendBody(dst []byte) []byte
}

// Type numbers the messages on the pipe.
type Type uint8

// The types of all messages. A number is never used again for anything else.
const (
	TypeHello       Type = 1
	TypeConfigure   Type = 2
	TypeConfigured  Type = 3
	TypeInstallKey  Type = 4
	TypeInstallIV   Type = 5
	TypeInstalled   Type = 6
	TypeActivate    Type = 7
	TypeKeyActive   Type = 8
	TypeRetire      Type = 9
	TypeDrop        Type = 10
	TypeWipe        Type = 11
	TypeWiped       Type = 12
	TypeGetStats    Type = 13
	TypeStats       Type = 14
	TypeSendProbe   Type = 15
	TypeProbeResult Type = 16
	TypeRekeyDue    Type = 17
	TypeStop        Type = 18
	TypeFatal       Type = 19
	TypeHandOver    Type = 20
	TypeKeyState    Type = 21
	TypeHandedOver  Type = 22
	TypeResume      Type = 23
	TypeResumed     Type = 24
	TypeUrgent      Type = 25
	TypeDisplace    Type = 26
	TypeDisplaced   Type = 27
)

// Mode says what the tunnel carries. It must be ModeTUN or ModeTAP.
type Mode uint8

// The two modes.
const (
	ModeTUN Mode = 1 // IP packets
	ModeTAP Mode = 2 // Ethernet frames
)

// String returns "tun" or "tap".
func (m Mode) String() string {
	switch m {
	case ModeTUN:
		return "tun"
	case ModeTAP:
		return "tap"
	}
	return "invalid"
}

// Hello is the first message in both directions. A child answers the parent's and
// ends when the versions differ.
type Hello struct {
	Version uint16
	PID     uint32 // the sender's
}

// Configure gives the child its whole configuration; the parent sends it before any
// key, and again when it changes. The mode must not change during a child's life.
type Configure struct {
	Seq         uint64 // echoed in the answer
	Mode        Mode
	AllowedIPs  []netip.Prefix // permitted sources of inner packets; empty: any
	Keepalive   time.Duration  // longest silence of the sender; 0: no keepalive
	KeyLifetime time.Duration  // from a key's installation to its end
	Offloads    Offloads       // of the device those in force; of the socket those to try
	Await       bool           // no packet moves before Resume; counts in the first Configure alone
}

// Configured answers Configure: it is in force.
type Configured struct {
	Seq uint64
}

// InstallKey gives the child a new data key at generation 0. Its receive side is live
// before the answer is sent. Its send side is pending, unless Activate is set, until
// Activate or the first authentic packet received with this key. It is sent by pointer, and
// wiped by whoever holds it.
type InstallKey struct {
	KeyID        keys.KeyID
	Epoch        keys.Epoch
	AEAD         keys.AEAD
	Send         keys.DataKey
	Receive      keys.DataKey
	SendIndex    wire.Index // chosen by the peer
	ReceiveIndex wire.Index // chosen by this node
	Activate     bool
	PartialCsum  bool // the peer takes, and sends, packets with a partial checksum
}

// Wipe zeroes the key bytes of this message.
func (m *InstallKey) Wipe() {
	m.Send.Wipe()
	m.Receive.Wipe()
}

// Format writes the name of the key for every verb: fmt follows a pointer to a message
// by some, and would print the bytes of its keys.
func (m *InstallKey) Format(state fmt.State, _ rune) { formatKey(state, m.KeyID, m.Epoch) }

func formatKey(w io.Writer, id keys.KeyID, epoch keys.Epoch) {
	_, _ = fmt.Fprintf(w, "{KeyID:%d Epoch:%d [secret]}", id, epoch)
}

// WipeMessage zeroes the key bytes that a message holds, if any.
func WipeMessage(m Message) {
	if m, ok := m.(interface{ Wipe() }); ok {
		m.Wipe()
	}
}

// InstallIV adds an IV generation to an installed key. Sending and receiving go as in
// InstallKey.
type InstallIV struct {
	KeyID        keys.KeyID
	Generation   keys.Generation
	SendIndex    wire.Index
	ReceiveIndex wire.Index
	Activate     bool
}

// Installed answers InstallKey and InstallIV. Nothing was installed if Err is not
// empty.
type Installed struct {
	KeyID      keys.KeyID
	Generation keys.Generation
	Err        string
}

// Activate makes the child send with an installed key and generation. It never goes
// back to an older one: such a message changes nothing.
type Activate struct {
	KeyID      keys.KeyID
	Generation keys.Generation
}

// KeyActive says, once for each key and generation, that the first authentic packet
// was received with it.
type KeyActive struct {
	KeyID      keys.KeyID
	Generation keys.Generation
}

// Retire makes the child wipe everything older than this key and generation, in
// lexicographic order. Only what it is sending with at that moment stays, for sending.
type Retire struct {
	KeyID      keys.KeyID
	Generation keys.Generation
}

// Drop makes the child wipe exactly this generation of this key, of an exchange that
// was aborted. With generation 0 the whole key goes.
type Drop struct {
	KeyID      keys.KeyID
	Generation keys.Generation
}

// Displace makes the child wipe this generation of this key to make room, unless an
// authentic packet was received with it or it is being sent with. With generation 0 the whole
// key goes, if that is true of none of its generations.
type Displace struct {
	KeyID      keys.KeyID
	Generation keys.Generation
}

// Displaced answers Displace.
type Displaced struct {
	KeyID      keys.KeyID
	Generation keys.Generation
	Kept       bool // it is in use, and stays
}

// Wipe makes the child wipe every key at once.
type Wipe struct {
	Seq uint64 // echoed in the answer
}

// Wiped answers Wipe: no key is left.
type Wiped struct {
	Seq uint64
}

// GetStats asks for the child's counters. It is also the heartbeat.
type GetStats struct {
	Seq uint64 // echoed in the answer
}

// Stats answers GetStats. All counters are totals since the child began. Bytes count
// inner packets, without any overhead.
type Stats struct {
	Seq            uint64
	RxBytes        uint64
	TxBytes        uint64
	RxPackets      uint64
	TxPackets      uint64
	Drops          Drops
	Received       uint64 // different packet numbers received, of all epochs
	Missing        uint64 // packet numbers skipped by what was received
	SendKey        keys.KeyID
	SendGeneration keys.Generation
	ReceiveSlots   uint8         // receive keys and generations held
	LastReceived   time.Duration // age of the last authentic packet; negative: never any
	RTT            time.Duration // last measured; 0: unknown
	Engine         string        // what seals and opens
	Offloads       Offloads      // in force
	Sandbox        Walls         // in force
	Fallbacks      Fallbacks
}

// Fallbacks counts what was done the slow way.
type Fallbacks struct {
	Sends     uint64 // runs of datagrams that the kernel did not send as a whole
	Writes    uint64 // super-packets that the device did not take as a whole
	Checksums uint64 // packets and super-packets whose checksum was completed here
}

// Drops counts what was thrown away, by reason.
type Drops struct {
	Auth      uint64 // inbound: not authentic
	Replay    uint64 // inbound: a packet number seen before, or too old
	Malformed uint64 // either way: not a datagram, packet or frame
	Unknown   uint64 // inbound: an index of no key
	Queue     uint64 // outbound: the socket's buffer was full; inbound: it stood full for long
	Source    uint64 // inbound: an inner source that is not allowed
	Device    uint64 // inbound: refused by the device
	Send      uint64 // outbound: refused by the socket
	NoKey     uint64 // outbound: no key to send with
}

// SendProbe makes the child measure the way to the peer and back.
type SendProbe struct {
	ID uint64 // echoed in the answer
}

// ProbeResult answers SendProbe. Unless OK is set nothing came back and only ID and
// the local totals mean anything.
type ProbeResult struct {
	ID            uint64
	OK            bool
	RTT           time.Duration
	Received      uint64 // the peer's totals, as in Stats
	Missing       uint64
	LocalReceived uint64 // this side's totals
	LocalMissing  uint64
}

// RekeyDue says, once for each key and reason, that this key needs a successor.
type RekeyDue struct {
	KeyID  keys.KeyID
	Reason RekeyReason
}

// RekeyReason says why a key needs a successor.
type RekeyReason uint8

// The reasons for RekeyDue.
const (
	RekeyPackets RekeyReason = 1 // many packets went through it
	RekeyBytes   RekeyReason = 2 // many bytes went through it
	RekeyExpired RekeyReason = 3 // its end came: it, or a side of it, is wiped
)

// String returns one word for logs.
func (r RekeyReason) String() string {
	switch r {
	case RekeyPackets:
		return "packets"
	case RekeyBytes:
		return "bytes"
	case RekeyExpired:
		return "expired"
	}
	return "invalid"
}

// UrgentProcessors is how many processors a machine has where a child may ask to be urgent. One is never taken from
// everybody else, and with more there is one for each loop.
const UrgentProcessors = 2

// Urgent asks for real-time priority for a thread of the child, and for no other one. It is sent again every
// second, or the parent takes the priority back after three; the child may do that itself.
type Urgent struct {
	Thread uint32 // its id
}

// Stop makes the child send what it has read, wipe all keys and end with status 0.
type Stop struct{}

// Fatal is a child's last message: it cannot go on.
type Fatal struct {
	Reason string
}

// Type implements Message.
func (Hello) Type() Type { return TypeHello }

// Type implements Message.
func (Configure) Type() Type { return TypeConfigure }

// Type implements Message.
func (Configured) Type() Type { return TypeConfigured }

// Type implements Message.
func (*InstallKey) Type() Type { return TypeInstallKey }

// Type implements Message.
func (InstallIV) Type() Type { return TypeInstallIV }

// Type implements Message.
func (Installed) Type() Type { return TypeInstalled }

// Type implements Message.
func (Activate) Type() Type { return TypeActivate }

// Type implements Message.
func (KeyActive) Type() Type { return TypeKeyActive }

// Type implements Message.
func (Retire) Type() Type { return TypeRetire }

// Type implements Message.
func (Drop) Type() Type { return TypeDrop }

// Type implements Message.
func (Displace) Type() Type { return TypeDisplace }

// Type implements Message.
func (Displaced) Type() Type { return TypeDisplaced }

// Type implements Message.
func (Wipe) Type() Type { return TypeWipe }

// Type implements Message.
func (Wiped) Type() Type { return TypeWiped }

// Type implements Message.
func (GetStats) Type() Type { return TypeGetStats }

// Type implements Message.
func (Stats) Type() Type { return TypeStats }

// Type implements Message.
func (SendProbe) Type() Type { return TypeSendProbe }

// Type implements Message.
func (ProbeResult) Type() Type { return TypeProbeResult }

// Type implements Message.
func (RekeyDue) Type() Type { return TypeRekeyDue }

// Type implements Message.
func (Urgent) Type() Type { return TypeUrgent }

// Type implements Message.
func (Stop) Type() Type { return TypeStop }

// Type implements Message.
func (Fatal) Type() Type { return TypeFatal }
