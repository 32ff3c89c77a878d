package session

import (
	"time"

	"tund/internal/keys"
)

const (
	// RivalLimit is how long the older of two sessions has to answer a PING, and how close
	// two sessions are established to count as dialled at the same time.
	RivalLimit = 2 * time.Second
	// RestartLimit is how long the older one has where the peer seems to have been restarted.
	// Mostly there is nobody any more who could answer, and a restarted peer waits for it.
	RestartLimit = 500 * time.Millisecond
)

// Rival is one of two sessions with the same peer, as this node sees it.
type Rival struct {
	Instance    [16]byte // of the peer's HELLO
	Dialled     bool     // by this node
	Established time.Time
}

// Verdict is which of two sessions goes on. The other one is ended with
// CLOSE([CloseDuplicate]), or with CLOSE([CloseSameKey]) if it is another machine's.
type Verdict uint8

// The verdicts.
const (
	KeepNewer Verdict = iota + 1
	KeepOlder
	PingOlder  // KeepOlder if it answers within RivalLimit, else KeepNewer
	Wait       // the peer decides: its CLOSE, or a [Wanted] event, tells
	ProveOlder // KeepNewer unless the older one answers within RestartLimit: two machines have one key then
)

// Arbitrate applies the rule of one session per peer. While the verdict is PingOlder, Wait or
// ProveOlder both sessions must be held.
func Arbitrate(self, peer keys.PublicKey, older, newer Rival) Verdict {
	switch {
	case older.Instance != newer.Instance: // the peer was started anew, or is another machine
		return ProveOlder
	case older.Dialled == newer.Dialled: // its dialler has given the older one up
		return KeepNewer
	case self.Compare(peer) > 0:
		return Wait
	case newer.Established.Sub(older.Established).Abs() > RivalLimit:
		return PingOlder
	case newer.Dialled: // we have the smaller key
		return KeepNewer
	default:
		return KeepOlder
	}
}
