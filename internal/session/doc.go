// Package session is the control session of one peer: a TCP connection with TLS 1.3 on
// it, both ends proven by their pinned Ed25519 keys, over which the two parents agree on
// data keys, change IVs, watch each other and say good-bye.
//
// It has two halves. The transport, [Dialer] and [Listener], turns a TCP connection into a
// [Conn]: a quiet prelude that keeps scanners without an answer, the handshake, admission
// limits. The engine, [Session], speaks the messages of message.go over a Conn: HELLO, the
// exchanges REKEY and REIV, PING, SHUTDOWN, CLOSE.
//
// It runs in the parent only. It never touches a data packet, a configuration file or a
// child: new keys leave as events and the owner answers with commands. [Session.Run] is one
// loop that owns all state; a reader and a writer goroutine serve it and end with it.
// Commands go into a mailbox and never block; events are sent on a channel that the owner
// gives, and block until they are taken or Run's context ends.
//
// It may import keys and wire, nothing else of this program.
package session
