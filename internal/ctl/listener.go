package ctl

import (
	"net"
	"sync"
)

const (
	// maxConnections bounds what callers other than root can take, and
	// maxPerUser what one of them (or root) can: nobody can keep the others out.
	maxConnections = 128
	maxPerUser     = 32
)

// limitedListener accepts connections of identified callers, so many and no more.
type limitedListener struct {
	*socketFile

	mu    sync.Mutex
	users map[uint32]int // open connections by uid
	total int            // without root's

	refused refusals
}

// callerConn is a connection that knows who called.
type callerConn struct {
	*net.UnixConn
	caller  caller
	release func() // idempotent
}

func newLimitedListener(s *socketFile) *limitedListener {
	return &limitedListener{socketFile: s, users: make(map[uint32]int)}
}

// Accept returns the next connection that is within the limits.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := identify(conn)
		if err != nil {
			_ = conn.Close()
			continue
		}
		if !l.enter(who.uid) {
			l.refused.add(conn)
			continue
		}
		release := sync.OnceFunc(func() { l.leave(who.uid) })
		return &callerConn{UnixConn: conn, caller: who, release: release}, nil
	}
}

// Close stops listening, and hangs up on who was refused and has not been told.
func (l *limitedListener) Close() error {
	defer l.refused.close()
	return l.socketFile.Close()
}

// Close closes the connection and gives its place to another.
func (c *callerConn) Close() error {
	defer c.release()
	return c.UnixConn.Close()
}

func (l *limitedListener) enter(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users[uid] >= maxPerUser || uid != 0 && l.total >= maxConnections {
		return false
	}
	l.users[uid]++
	if uid != 0 {
		l.total++
	}
	return true
}

func (l *limitedListener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users[uid]--; l.users[uid] == 0 {
		delete(l.users, uid)
	}
	if uid != 0 {
		l.total--
	}
}
