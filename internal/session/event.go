package session

import (
	"fmt"
	"time"

	"tund/internal/keys"
	"tund/internal/wire"
)

// Event is what a session reports to its owner. Body is a value of one of the types below.
type Event struct {
	Session *Session
	Body    EventBody
}

// EventBody is any of the events below.
type EventBody interface{ event() }

// Kind tells the two exchanges apart.
type Kind uint8

// The exchanges.
const (
	KindRekey Kind = iota + 1 // a new epoch
	KindReiv                  // a new IV generation of the present epoch
)

// String gives the name used in logs.
func (k Kind) String() string {
	switch k {
	case KindRekey:
		return "rekey"
	case KindReiv:
		return "reiv"
	default:
		return fmt.Sprintf("exchange kind %d", uint8(k))
	}
}

// Established says that the peer's HELLO has come and fits ours. It is the first event, if the
// session gets so far. The owner that dialled now calls [Session.Rekey].
type Established struct {
	Hello   Hello // the peer's
	Version uint16
	AEAD    keys.AEAD
	At      time.Time
}

// InstallKey is a new key: the owner gives it to its child and answers with [Session.Installed].
// The receive key is live at once; the send key too if Activate is set, else with the
// [Activate] event or when the child has opened a first packet with the new key, whichever
// is earlier. The owner owns both indexes and the copies of both keys from now on, whatever
// becomes of the exchange and the session.
type InstallKey struct {
	KeyID        keys.KeyID
	Epoch        keys.Epoch
	AEAD         keys.AEAD
	Send         keys.DataKey
	Receive      keys.DataKey
	SendIndex    wire.Index
	ReceiveIndex wire.Index
	Activate     bool
}

// InstallIV is the same for a further IV generation of a key that is installed.
type InstallIV struct {
	KeyID        keys.KeyID
	Generation   keys.Generation
	SendIndex    wire.Index
	ReceiveIndex wire.Index
	Activate     bool
}

// Activate says that the peer sends with the key, so the child shall, too.
type Activate struct {
	KeyID      keys.KeyID
	Generation keys.Generation
}

// Drop says that an exchange was given up before the peer could use its key; the owner wipes
// exactly this slot and releases its index. Generation 0 stands for the whole key.
type Drop struct {
	KeyID      keys.KeyID
	Generation keys.Generation
}

// Exchanged says that an exchange has ended, whoever began it. Exactly one comes for each exchange
// that was in flight, before Closed. Where both sides began one at the same time, only the
// winner's is reported. If Err is not nil nothing has changed, KeyID is 0 and Reason says
// why if it was aborted; the next try is the owner's, after a pause.
type Exchanged struct {
	Kind       Kind
	Initiator  bool
	KeyID      keys.KeyID
	Epoch      keys.Epoch
	Generation keys.Generation
	Err        error
	Reason     AbortReason
}

// Wanted says that a REKEY of the peer has come while the session is held. It waits. The owner may
// take it as the peer's decision that this session is the one to go on.
type Wanted struct{}

// ShutdownReceived says that the peer ends the tunnel. It is answered with CLOSE, and Closed
// follows.
type ShutdownReceived struct {
	Reason   string
	StayDown bool
}

// PongReceived says that the PONG to the PING of [Session.Ping] has come.
type PongReceived struct{ ID uint64 }

// Closed is the last event. Err is nil if the owner ended the session by Close, or by
// Shutdown and the peer acknowledged it; it is a [*CloseError] if a CLOSE was sent or received.
type Closed struct {
	Err    error
	Code   CloseCode // 0: ended without a CLOSE
	Remote bool      // the peer sent it
}

func (Established) event()      {}
func (InstallKey) event()       {}
func (InstallIV) event()        {}
func (Activate) event()         {}
func (Drop) event()             {}
func (Exchanged) event()        {}
func (Wanted) event()           {}
func (ShutdownReceived) event() {}
func (PongReceived) event()     {}
func (Closed) event()           {}
