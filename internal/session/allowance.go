package session

import "golang.org/x/time/rate"

// What a peer may send, all its sessions together. Each is several times what an
// implementation needs that keeps to protocol.md in the worst of cases: as many exchanges
// as slots are retired for, after a change of network, with an administrator at either
// end who rotates keys, or restarts tund, in a loop.
const (
	messagesPerSecond = 60
	messageBurst      = 1000
	rekeysPerSecond   = 6
	rekeyBurst        = 100
	reivsPerSecond    = 6
	reivBurst         = 120
	pingsPerSecond    = 2
	pingBurst         = 120
)

// Allowance is what one peer may send. It outlives its sessions, so that a new one brings
// nothing anew. It is safe for concurrent use. Make it with [NewAllowance].
type Allowance struct {
	messages *rate.Limiter
	kinds    map[Type]*rate.Limiter
}

// NewAllowance returns a full one.
func NewAllowance() *Allowance {
	return &Allowance{
		messages: rate.NewLimiter(messagesPerSecond, messageBurst),
		kinds: map[Type]*rate.Limiter{
			TypeRekey: rate.NewLimiter(rekeysPerSecond, rekeyBurst),
			TypeReiv:  rate.NewLimiter(reivsPerSecond, reivBurst),
			TypePing:  rate.NewLimiter(pingsPerSecond, pingBurst),
		},
	}
}

// message takes one of any kind, before anything is done about it.
func (a *Allowance) message() error {
	if a.messages.Allow() {
		return nil
	}
	return breach("messages", messagesPerSecond, messageBurst)
}

// kind takes one of its kind, where that costs more than to read it.
func (a *Allowance) kind(t Type) error {
	l, limited := a.kinds[t]
	if !limited || l.Allow() {
		return nil
	}
	return breach(t.String(), int(l.Limit()), l.Burst())
}

func breach(what string, perSecond, burst int) error {
	return refuse(CloseLimit, "too many %s: at most %d at once and %d a second", what, burst, perSecond)
}
