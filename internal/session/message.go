package session

import (
	"errors"
	"fmt"
	"unicode"

	"tund/internal/keys"
	"tund/internal/wire"
)

// The messages of a control session. Each arrow is one message; an indented arrow answers
// the one above it. Both ends are parents, and but for the dialling they are equals: either
// may be the "initiator" of an exchange.
//
//	[ either ]                                 [ the other ]
//	HELLO{versions, instance, ...}   -->
//	                                 <--  HELLO             each sends its own at once, unasked
//
//	[ initiator ]                              [ responder ]
//	REKEY{exchange, epoch, ...}      -->
//	                                     <--  REKEY_REPLY{exchange, body, tag} | ABORT
//	    REKEY_DONE{exchange, tag}    -->                    the initiator's child has the key
//	REIV{exchange, epoch, ...}       -->
//	                                     <--  REIV_REPLY{exchange, ...} | ABORT
//	    REIV_DONE{exchange, ...}     -->
//	ABORT{exchange, code, text}      -->                    instead of REKEY_DONE or REIV_DONE
//
//	[ either ]                                 [ the other ]
//	PING{data}                       -->
//	                                     <--  PONG{data}    the same eight bytes, in order
//	SHUTDOWN{reason, stay down}      -->
//	                                     <--  CLOSE{shutdown}
//	CLOSE{code, text}                -->                    the last message of its sender
//
// On the wire a message is a CBOR array of two: its type number, and a map with integer
// keys. It stands behind its length, four bytes, big-endian. Every message has exactly one
// encoding, the core deterministic one of RFC 8949, and Decode refuses any other. Only a
// HELLO may carry keys that the receiver does not know: they are ignored, and hashed with
// the rest into the key schedule.

// Version of the messages. Increase it when a message changes.
const Version uint16 = 1

const (
	// MaxMessage is the largest message in bytes, without the length before it.
	MaxMessage = 64 << 10
	// maxText bounds reasons and other text for people, in bytes.
	maxText = 256
	// maxList bounds the keys of a message, and the lists of a HELLO.
	maxList = 64

	x25519Size      = 32
	encapsulateSize = 1184 // ML-KEM-768 encapsulation key, FIPS 203
	ciphertextSize  = 1088 // ML-KEM-768 ciphertext, FIPS 203
)

// Type is the number of a message.
type Type uint8

// The numbers on the wire; they are never used for anything else.
const (
	TypeHello Type = iota + 1
	TypeRekey
	TypeRekeyReply
	TypeRekeyDone
	TypeReiv
	TypeReivReply
	TypeReivDone
	TypeAbort
	TypePing
	TypePong
	TypeShutdown
	TypeClose
	typeEnd
)

var typeNames = [typeEnd]string{
	TypeHello: "HELLO", TypeRekey: "REKEY", TypeRekeyReply: "REKEY_REPLY", TypeRekeyDone: "REKEY_DONE",
	TypeReiv: "REIV", TypeReivReply: "REIV_REPLY", TypeReivDone: "REIV_DONE", TypeAbort: "ABORT",
	TypePing: "PING", TypePong: "PONG", TypeShutdown: "SHUTDOWN", TypeClose: "CLOSE",
}

// String gives the name as it stands in the documents.
func (t Type) String() string {
	if t < typeEnd && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("message type %d", uint8(t))
}

// Message is any message of the catalogue above.
type Message interface {
	Type() Type
	check() error // the limits of its fields, beyond what CBOR tells
}

// Exchange numbers one REKEY or REIV with all that belongs to it. The node that dialled
// counts 1, 3, 5 ..., the other one 2, 4, 6 ..., so that no two are ever the same.
type Exchange uint32

// Hello is the first message of either side.
type Hello struct {
	Versions []uint16    `cbor:"1,keyasint"` // that the sender speaks
	Instance [16]byte    `cbor:"2,keyasint"` // random, new with every start of the program; not zero
	Mode     string      `cbor:"3,keyasint"` // "tun" or "tap"
	MTU      int         `cbor:"4,keyasint"` // of the device
	UDPPort  int         `cbor:"5,keyasint"` // of the data channel; 0: not known
	AEADs    []keys.AEAD `cbor:"6,keyasint"` // in order of preference; a byte string, one byte each
	Features []string    `cbor:"7,keyasint"` // what both name may be used
}

// Rekey asks for a new epoch.
type Rekey struct {
	Exchange  Exchange   `cbor:"1,keyasint"`
	Epoch     keys.Epoch `cbor:"2,keyasint"`
	X25519    []byte     `cbor:"3,keyasint"` // ephemeral public key
	MLKEM     []byte     `cbor:"4,keyasint"` // ML-KEM-768 encapsulation key
	Index     wire.Index `cbor:"5,keyasint"` // under which the initiator receives
	Preshared bool       `cbor:"6,keyasint"` // a pre-shared key is in use
}

// RekeyReply answers a [Rekey]. Body is a [ReplyBody] as bytes, because the key schedule
// hashes it and the tag proves it.
type RekeyReply struct {
	Exchange Exchange `cbor:"1,keyasint"`
	Body     []byte   `cbor:"2,keyasint"`
	Tag      [32]byte `cbor:"3,keyasint"`
}

// ReplyBody is what stands in a [RekeyReply], encoded on its own.
type ReplyBody struct {
	X25519 []byte     `cbor:"1,keyasint"` // ephemeral public key
	MLKEM  []byte     `cbor:"2,keyasint"` // ML-KEM-768 ciphertext
	Index  wire.Index `cbor:"3,keyasint"` // under which the responder receives
}

// RekeyDone says that the initiator's child receives and sends with the new epoch.
type RekeyDone struct {
	Exchange Exchange `cbor:"1,keyasint"`
	Tag      [32]byte `cbor:"2,keyasint"`
}

// Reiv asks for the next IV generation of the present epoch.
type Reiv struct {
	Exchange   Exchange        `cbor:"1,keyasint"`
	Epoch      keys.Epoch      `cbor:"2,keyasint"`
	Generation keys.Generation `cbor:"3,keyasint"`
	Index      wire.Index      `cbor:"4,keyasint"` // under which the initiator receives
}

// ReivReply answers a [Reiv]; epoch and generation are those asked for.
type ReivReply struct {
	Exchange   Exchange        `cbor:"1,keyasint"`
	Epoch      keys.Epoch      `cbor:"2,keyasint"`
	Generation keys.Generation `cbor:"3,keyasint"`
	Index      wire.Index      `cbor:"4,keyasint"` // under which the responder receives
}

// ReivDone says that the initiator's child receives and sends with the new generation.
type ReivDone struct {
	Exchange   Exchange        `cbor:"1,keyasint"`
	Epoch      keys.Epoch      `cbor:"2,keyasint"`
	Generation keys.Generation `cbor:"3,keyasint"`
}

// Abort ends an exchange: its receiver drops what was pending. It is never sent for a key
// that the sender's child may send with.
type Abort struct {
	Exchange Exchange    `cbor:"1,keyasint"`
	Reason   AbortReason `cbor:"2,keyasint"`
	Text     string      `cbor:"3,keyasint"`
}

// Ping asks for a [Pong] with the same data.
type Ping struct {
	Data [8]byte `cbor:"1,keyasint"`
}

// Pong answers a [Ping].
type Pong struct {
	Data [8]byte `cbor:"1,keyasint"`
}

// Shutdown announces that the sender ends the tunnel.
type Shutdown struct {
	Reason   string `cbor:"1,keyasint"`
	StayDown bool   `cbor:"2,keyasint"` // until the receiver's administrator says up
}

// Close ends the session. Its text is for a person at the receiving end.
type Close struct {
	Code CloseCode `cbor:"1,keyasint"`
	Text string    `cbor:"2,keyasint"`
}

// Type implements [Message].
func (Hello) Type() Type { return TypeHello }

// Type implements [Message].
func (Rekey) Type() Type { return TypeRekey }

// Type implements [Message].
func (RekeyReply) Type() Type { return TypeRekeyReply }

// Type implements [Message].
func (RekeyDone) Type() Type { return TypeRekeyDone }

// Type implements [Message].
func (Reiv) Type() Type { return TypeReiv }

// Type implements [Message].
func (ReivReply) Type() Type { return TypeReivReply }

// Type implements [Message].
func (ReivDone) Type() Type { return TypeReivDone }

// Type implements [Message].
func (Abort) Type() Type { return TypeAbort }

// Type implements [Message].
func (Ping) Type() Type { return TypePing }

// Type implements [Message].
func (Pong) Type() Type { return TypePong }

// Type implements [Message].
func (Shutdown) Type() Type { return TypeShutdown }

// Type implements [Message].
func (Close) Type() Type { return TypeClose }

func (m Hello) check() error {
	switch {
	case len(m.Versions) == 0 || len(m.Versions) > maxList:
		return errors.New("list of versions")
	case m.Instance == [16]byte{}:
		return errors.New("instance id")
	case m.MTU < 0 || m.MTU > 65535:
		return errors.New("mtu")
	case m.UDPPort < 0 || m.UDPPort > 65535:
		return errors.New("udp port")
	case len(m.AEADs) > maxList || len(m.Features) > maxList:
		return errors.New("list too long")
	}
	for _, text := range append([]string{m.Mode}, m.Features...) {
		if err := checkText(text); err != nil {
			return err
		}
	}
	return nil
}

func (m Rekey) check() error {
	switch {
	case m.Exchange == 0 || m.Epoch == 0:
		return errors.New("number zero")
	case len(m.X25519) != x25519Size || len(m.MLKEM) != encapsulateSize:
		return errors.New("length of a public key")
	}
	return checkIndex(m.Index)
}

func (m RekeyReply) check() error {
	if m.Exchange == 0 {
		return errors.New("number zero")
	}
	return nil
}

func (b ReplyBody) check() error {
	if len(b.X25519) != x25519Size || len(b.MLKEM) != ciphertextSize {
		return errors.New("length of a public key")
	}
	return checkIndex(b.Index)
}

func (m RekeyDone) check() error { return RekeyReply{Exchange: m.Exchange}.check() }

func (m Reiv) check() error {
	if err := m.done().check(); err != nil {
		return err
	}
	return checkIndex(m.Index)
}

func (m Reiv) done() ReivDone {
	return ReivDone{Exchange: m.Exchange, Epoch: m.Epoch, Generation: m.Generation}
}

func (m ReivReply) check() error { return Reiv(m).check() }

func (m ReivDone) check() error {
	if m.Exchange == 0 || m.Epoch == 0 || m.Generation == 0 {
		return errors.New("number zero")
	}
	if m.Generation >= keys.MaxGeneration {
		return errors.New("generation beyond the last one")
	}
	return nil
}

func (m Abort) check() error {
	if m.Exchange == 0 || m.Reason == 0 {
		return errors.New("number zero")
	}
	return checkText(m.Text)
}

func (m Ping) check() error { return nil }

func (m Pong) check() error { return nil }

func (m Shutdown) check() error { return checkText(m.Reason) }

func (m Close) check() error {
	if m.Code == 0 {
		return errors.New("number zero")
	}
	return checkText(m.Text)
}

func checkIndex(i wire.Index) error {
	if i == 0 || i > wire.MaxIndex {
		return errors.New("index")
	}
	return nil
}

// checkText keeps what a peer says fit for a log line and a terminal.
func checkText(text string) error {
	if len(text) > maxText {
		return errors.New("text too long")
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return errors.New("text is not printable")
		}
	}
	return nil
}
