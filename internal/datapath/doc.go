// Package datapath moves packets between one TUN or TAP device and one UDP socket.
//
// It is all that a child process runs. The parent tells it what to do through a pipe
// of messages (package pipe); no packet ever crosses that pipe, and nothing here knows
// the configuration file, TLS or the control socket. Nothing is opened here either:
// device and socket come from outside.
//
//	         ┌────────────── outbound ──────────────►┐
//	device ──┤                                       ├── socket
//	         └◄───────────── inbound ────────────────┘
//	                 table ▲      │ wake, answers
//	                       │      ▼
//	                      control ◄────────────────────► pipe
//
// A [Datapath] has three goroutines, besides one that only reads the pipe:
//
//   - outbound reads packets and super-packets, cuts, seals and sends them.
//   - inbound receives, opens, joins and writes them; it owns the replay windows, and it
//     answers probes.
//   - control owns the keyring and every decision about it. It sends probes.
//
// Given [Options].Both, it has one goroutine for outbound and inbound together (joint.go).
//
// The two loops see the keys through an immutable [table], which control replaces as
// a whole. They tell control about what they saw (a first packet, a limit) by atomics
// in the key's own objects and one wake-up channel that never blocks them. Per packet
// there is no lock, no channel and no allocation.
//
// Key bytes stay beside the cipher that was made of them, since a successor may need them:
// told to hand over, control ends the loops for good and then tells all that is known of
// each key (handover.go). Wiping a key means that the table no longer has it, and that its
// bytes are overwritten, and its cipher is told to overwrite its own form of them, once no
// loop is at work with an older table; the standard library's cannot be
// overwritten. A batch that is in work while a key is wiped is finished with it.
package datapath
