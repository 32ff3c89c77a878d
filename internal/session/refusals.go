package session

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tund/internal/keys"
)

// maxRefusedKeys is how many unknown keys are remembered for an operator.
const maxRefusedKeys = 8

// Refusals count the connections that did not become a session.
type Refusals struct {
	Prelude    uint64 // no good prelude in time
	Replay     uint64 // a prelude seen before
	TLS        uint64 // the handshake failed
	UnknownKey uint64 // the other end is no configured peer
	Limit      uint64 // too many at once, or too often
}

// RefusedKey is a public key that has proven itself and is not that of a configured peer.
type RefusedKey struct {
	Key    keys.PublicKey
	Remote netip.AddrPort // of its last try
	Last   time.Time
	Count  uint64
}

// refusals keeps both. It is safe for concurrent use.
type refusals struct {
	prelude, replay, tls, unknown, limit atomic.Uint64

	mu   sync.Mutex
	keys []RefusedKey // the one that came last is the last
}

// addKey remembers an unknown key, if need be in the place of the one that came longest ago. It says
// whether it was not remembered before.
func (r *refusals) addKey(key keys.PublicKey, remote netip.AddrPort, now time.Time) (isNew bool) {
	r.unknown.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := RefusedKey{Key: key}
	at := slices.IndexFunc(r.keys, func(k RefusedKey) bool { return k.Key == key })
	switch {
	case at >= 0:
		entry = r.keys[at]
		r.keys = slices.Delete(r.keys, at, at+1)
	case len(r.keys) == maxRefusedKeys:
		r.keys = slices.Delete(r.keys, 0, 1)
	}
	entry.Remote, entry.Last = remote, now
	entry.Count++
	r.keys = append(r.keys, entry)
	return at < 0
}

// Refused gives the counters.
func (a *Admission) Refused() Refusals {
	r := &a.refused
	return Refusals{
		Prelude: r.prelude.Load(), Replay: r.replay.Load(), TLS: r.tls.Load(),
		UnknownKey: r.unknown.Load(), Limit: r.limit.Load(),
	}
}

// RefusedKeys gives the unknown keys that came last, the latest first.
func (a *Admission) RefusedKeys() []RefusedKey {
	a.refused.mu.Lock()
	defer a.refused.mu.Unlock()
	found := slices.Clone(a.refused.keys)
	slices.Reverse(found)
	return found
}
