package session

import (
	"time"

	"tund/internal/keys"
)

const (
	// RivalLimit is how long the older of two sessions has to answer a PING, and how close
	// two sessions are established to count as dialled at the same time.
	RivalLimit = 2 * time.Second
)

// Rival is one of two sessions with the same peer, as this node sees it.
type Rival struct {
	Instance    [16]byte // of the peer's HELLO
	Dialled     bool     // by this node
	Established time.Time
	First       int  // the place of the instance among all, in the order of their first sessions
	Back        bool // another instance was in force since: a restarted program never comes back
}

// Verdict is which of two sessions goes on. The other one is ended with
// CLOSE([CloseDuplicate]), or with CLOSE([CloseSameKey]) if it is another machine's.
type Verdict uint8

// The verdicts.
const (
	KeepNewer Verdict = iota + 1
	KeepOlder
	PingOlder // KeepOlder if it answers within RivalLimit, else KeepNewer
	Wait      // the peer decides: its CLOSE, or a [Wanted] event, tells
)

// Arbitrate applies the rule of one session per peer. While the verdict is PingOlder or
// Wait both sessions must be held. Where two machines have the peer's key, the one that was there
// first is kept.
func Arbitrate(self, peer keys.PublicKey, older, newer Rival) Verdict {
	switch {
	case older.Instance != newer.Instance && newer.Back && newer.First > older.First: // the second machine is back
		return PingOlder
	case older.Instance != newer.Instance: // the peer was started anew, or the first machine is back
		return KeepNewer
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
