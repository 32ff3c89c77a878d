package ctl

import (
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// refuseTimeout bounds how long a caller that is refused may take to say what it wants.
	refuseTimeout = time.Second
	// maxRefused bounds how many of them are waited for at a time.
	maxRefused = 32
	refusal    = `{"schema":1,"error":{"code":"busy","message":"too many connections"}}` + "\n"
)

// refusals are the callers who are one too many and have not been told yet.
type refusals struct {
	mu     sync.Mutex
	conns  map[*net.UnixConn]struct{}
	closed bool
	wg     sync.WaitGroup // one for each of conns
}

// add refuses a caller without keeping the next one waiting. Most HTTP clients take an answer
// only to what they have asked: it comes after the request, unless too many wait so already.
func (r *refusals) add(conn *net.UnixConn) {
	if !r.enter(conn) {
		refuse(conn)
		return
	}
	go func() { // ends with the first bytes, refuseTimeout, or close
		defer r.leave(conn)
		_ = conn.SetReadDeadline(time.Now().Add(refuseTimeout))
		_, _ = conn.Read(make([]byte, maxHeader))
		refuse(conn)
	}()
}

func (r *refusals) enter(conn *net.UnixConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.conns) >= maxRefused {
		return false
	}
	if r.conns == nil {
		r.conns = make(map[*net.UnixConn]struct{})
	}
	r.conns[conn] = struct{}{}
	r.wg.Add(1)
	return true
}

func (r *refusals) leave(conn *net.UnixConn) {
	defer r.wg.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
}

// close hangs up on those who wait. It may be called again.
func (r *refusals) close() {
	r.mu.Lock()
	r.closed = true
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// refuse answers, whatever was asked, and hangs up. The answer fits the socket's buffer.
func refuse(conn *net.UnixConn) {
	_ = conn.SetWriteDeadline(time.Now().Add(refuseTimeout))
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(refusal), refusal)
	_ = conn.Close()
}
