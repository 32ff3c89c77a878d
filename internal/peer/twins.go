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

// twins finds out that two machines use one key, for instance a machine and its clone. It is
// owned by the peer's Run goroutine.
type twins struct {
	seen    []instanceID // of sessions in force, the present one last
	proving bool         // the older session has to show that its machine is there
	text    string       // for status
	at      time.Duration
}

// inForce notes whose session is in force, and reports whether it has come back: that it was
// in force before, and another one since. A restarted program never does.
func (t *twins) inForce(id instanceID) (back bool) {
	back = t.replaced(id)
	t.seen = slices.DeleteFunc(t.seen, func(other instanceID) bool { return other == id })
	t.seen = append(t.seen, id)
	if len(t.seen) > maxInstances {
		t.seen = t.seen[1:]
	}
	return back
}

// replaced tells whether a session of this instance was in force before the present one.
func (t *twins) replaced(id instanceID) bool {
	at := slices.Index(t.seen, id)
	return at >= 0 && at < len(t.seen)-1
}

// warning is what status says about it; "" for nothing.
func (t *twins) warning(now time.Duration) string {
	if t.text == "" || now-t.at > twinsShown {
		return ""
	}
	return t.text
}

// proveOlder asks the machine of the main session whether it is there still, before one of
// another instance takes its place. One that has come back is worth a longer wait.
func (p *Peer) proveOlder(newer *link) {
	limit := session.RestartLimit
	if p.twins.replaced(newer.established.Hello.Instance) {
		limit = session.RivalLimit
	}
	p.twins.proving = true
	p.holdBoth(true)
	p.links.main.s.Ping(0)
	p.agenda.set(taskDecide, p.o.Now()+limit)
}

// refuseTwin keeps the session that works: both machines are there.
func (p *Peer) refuseTwin(kept, refused *link) {
	refused.s.Close(session.CloseSameKey, "another machine uses the key of this node, and has a session from "+kept.conn.Remote().String())
	p.noteTwins(fmt.Sprintf("two machines use the key of this peer: the session of %s goes on, %s is refused",
		kept.conn.Remote(), refused.conn.Remote()))
}

// noteTwins tells the administrator, not at each of the many tries.
func (p *Peer) noteTwins(text string) {
	t, now := &p.twins, p.o.Now()
	level := slog.LevelWarn
	if t.warning(now) != "" {
		level = slog.LevelDebug
	}
	t.text, t.at = text, now
	p.log.Log(context.Background(), level, "two machines use one key", "reason", text)
}
