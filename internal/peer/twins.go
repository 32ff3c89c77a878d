package peer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tund/internal/session"
)

const (
	// maxInstances bounds the memory of instance ids.
	maxInstances = 8
	// twinsShown is how long after the last sign of it status says that two machines have the
	// peer's key, and how long the log does not say it again.
	twinsShown = 10 * time.Minute
)

// instanceID is that of a HELLO: random with each start of a program.
type instanceID [16]byte

// twins finds out that two machines use one key, for instance a machine and its clone: an
// instance comes back though a session of another one has taken its place. It is owned by the
// peer's Run goroutine.
type twins struct {
	seen  []instanceID // in the order of their first sessions in force
	found bool         // the rival of now is the other machine's
	text  string       // for status
	at    time.Duration
}

// inForce notes whose session is in force.
func (t *twins) inForce(id instanceID) {
	if slices.Contains(t.seen, id) {
		return
	}
	t.seen = append(t.seen, id)
	if len(t.seen) > maxInstances {
		t.seen = t.seen[1:]
	}
}

// place is where an instance stands in the order of first sessions; back tells whether it had one.
func (t *twins) place(id instanceID) (place int, back bool) {
	if place = slices.Index(t.seen, id); place >= 0 {
		return place, true
	}
	return len(t.seen), false
}

// warning is what status says about it; "" for nothing.
func (t *twins) warning(now time.Duration) string {
	if t.text == "" || now-t.at > twinsShown {
		return ""
	}
	return t.text
}

// isTwin tells whether a session is that of another machine than the main one.
func (p *Peer) isTwin(l *link) bool {
	id := l.established.Hello.Instance
	_, back := p.twins.place(id)
	return back && id != p.links.main.established.Hello.Instance
}

// closeLoser ends the session that another one is preferred to. Where it is another machine's,
// its administrator is told, and so is ours, not at each of its many tries.
func (p *Peer) closeLoser(winner, loser *link) {
	if !p.twins.found {
		loser.s.Close(session.CloseDuplicate, "")
		return
	}
	kept, refused := winner.conn.Remote(), loser.conn.Remote()
	loser.s.Close(session.CloseSameKey, fmt.Sprintf("another machine uses the key of this node, and has a session from %s", kept))
	t, now := &p.twins, p.o.Now()
	level := slog.LevelWarn
	if t.warning(now) != "" {
		level = slog.LevelDebug
	}
	t.text, t.at = fmt.Sprintf("two machines use the key of this peer: the one at %s is kept, the one at %s is refused", kept, refused), now
	p.log.Log(context.Background(), level, "two machines use one key", "reason", t.text)
}
