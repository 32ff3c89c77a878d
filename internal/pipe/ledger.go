package pipe

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/time/rate"
)

// The budget of a child for messages that nobody asks for: KeyActive, RekeyDue, Urgent. A good one
// sends a few for each key, and asks for priority twenty times a second at most.
const (
	unaskedRate  = 50 // a second
	unaskedBurst = 200
)

var (
	errUnasked = fmt.Errorf("%w: it answers nothing", ErrDirection)
	errBudget  = errors.New("more messages than a child may send unasked")
	errOver    = fmt.Errorf("%w: after the child's last", ErrDirection)
)

// A ledger holds a child to what it may say: each answer once, each last word once, and of
// what nobody asks for so much. Whoever takes a child over can't flood its parent.
type ledger struct {
	unasked *rate.Limiter
	over    bool // the child has said its last

	mu   sync.Mutex // guards what follows: the parent sends and receives at the same time
	owed map[Type]int
}

func newLedger() *ledger {
	return &ledger{unasked: rate.NewLimiter(unaskedRate, unaskedBurst), owed: map[Type]int{}}
}

// ask is called before the parent sends a message.
func (l *ledger) ask(t Type) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch t {
	case TypeConfigure:
		l.owed[TypeConfigured]++
	case TypeInstallKey, TypeInstallIV:
		l.owed[TypeInstalled]++
	case TypeDisplace:
		l.owed[TypeDisplaced]++
	case TypeWipe:
		l.owed[TypeWiped]++
	case TypeGetStats:
		l.owed[TypeStats]++
	case TypeSendProbe:
		l.owed[TypeProbeResult]++
	case TypeResume:
		l.owed[TypeResumed] = 1
	case TypeHandOver:
		l.owed[TypeKeyState], l.owed[TypeHandedOver] = MaxStates, 1
	default: // asks for nothing
	}
}

// admit judges a message of the child.
func (l *ledger) admit(t Type) error {
	if l.over {
		return errOver
	}
	switch t {
	case TypeHello: // once: see Conn
		return nil
	case TypeKeyActive, TypeRekeyDue, TypeUrgent:
		if !l.unasked.Allow() {
			return errBudget
		}
		return nil
	case TypeFatal:
		l.over = true
		return nil
	default:
		l.over = t == TypeHandedOver
		return l.settle(t)
	}
}

// settle takes an answer off what is owed.
func (l *ledger) settle(t Type) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owed[t] == 0 {
		return errUnasked
	}
	l.owed[t]--
	return nil
}
