package session

import "fmt"

// state is where a session stands.
//
//	greeting ──the peer's HELLO fits──► open ──Shutdown──► leaving
//	    │                                │                    │
//	    └──────── CLOSE, silence, error, context ─────────────┴──► closed
type state uint8

const (
	stateGreeting state = iota // our HELLO is sent, the peer's has not come
	stateOpen
	stateLeaving // SHUTDOWN is sent, CLOSE has not come
	stateClosed
	stateEnd
)

var stateNames = [stateEnd]string{"greeting", "open", "leaving", "closed"}

func (s state) String() string {
	if s < stateEnd {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// transition is the only writer of the state.
func (s *Session) transition(to state) {
	s.o.Log.Debug("session state changed", "from", s.state.String(), "to", to.String())
	s.state = to
}

// permitted is which message may arrive in which state. Whether an exchange's message fits
// the exchange is decided where it is taken.
var permitted = [stateEnd][typeEnd]bool{
	stateGreeting: {TypeHello: true, TypeClose: true},
	stateOpen:     afterHello,
	stateLeaving:  afterHello, // the peer may have sent them before it saw our SHUTDOWN
}

var afterHello = [typeEnd]bool{
	TypeRekey: true, TypeRekeyReply: true, TypeRekeyDone: true,
	TypeReiv: true, TypeReivReply: true, TypeReivDone: true,
	TypeAbort: true, TypePing: true, TypePong: true, TypeShutdown: true, TypeClose: true,
}

func permit(s state, t Type) error {
	if s < stateEnd && t < typeEnd && permitted[s][t] {
		return nil
	}
	return fmt.Errorf("%s in state %s", t, s)
}
