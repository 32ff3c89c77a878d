package lab

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Manager stands in for the service manager of a node: it hears what tund says by sd_notify(3).
type Manager struct {
	node *Node
	conn *net.UnixConn
	done chan struct{}

	marks atomic.Int64

	mu    sync.Mutex
	heard []Notice
	kept  []kept
}

// Notice is one message to the manager.
type Notice struct {
	Text string
	At   time.Time
}

// Manage makes a service manager for the node's tund, from the next start on. A watchdog
// of 0 is none.
func (n *Node) Manage(watchdog time.Duration) *Manager {
	n.lab.tb.Helper()
	path := filepath.Join(n.Dir, "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	m := &Manager{node: n, conn: conn, done: make(chan struct{})}
	go m.listen() // ends with the lab
	n.lab.tb.Cleanup(func() {
		_ = conn.Close()
		<-m.done
		m.Forget()
	})
	n.Env = append(n.Env, "NOTIFY_SOCKET="+path)
	if watchdog > 0 {
		n.Env = append(n.Env, "WATCHDOG_USEC="+strconv.FormatInt(watchdog.Microseconds(), 10))
	}
	return m
}

func (m *Manager) listen() {
	defer close(m.done)
	text, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(16*4))
	for {
		n, c, _, _, err := m.conn.ReadMsgUnix(text, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		m.keep(string(text[:n]), rights(control[:c]))
		m.mu.Lock()
		m.heard = append(m.heard, Notice{Text: string(text[:n]), At: time.Now()})
		m.mu.Unlock()
	}
}

// settle waits until all has been heard that was said before: messages come in order.
func (m *Manager) settle() {
	tb := m.node.lab.tb
	tb.Helper()
	mark := fmt.Sprintf("MARK=%d", m.marks.Add(1))
	conn, err := net.DialUnix("unixgram", nil, m.conn.LocalAddr().(*net.UnixAddr))
	if err == nil {
		_, err = conn.Write([]byte(mark))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		tb.Fatalf("node %s: manager: %v", m.node.Name, err)
	}
	Until(tb, Patience, "the manager has heard all", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return slices.ContainsFunc(m.heard, func(n Notice) bool { return n.Text == mark })
	})
}

// Settled returns what [Manager.Heard] does, once all has been heard that was said before.
func (m *Manager) Settled(prefix string) []Notice {
	m.node.lab.tb.Helper()
	m.settle()
	return m.Heard(prefix)
}

// Heard returns what tund has said so far whose text begins so, in order.
func (m *Manager) Heard(prefix string) []Notice {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.heard), func(n Notice) bool { return !strings.HasPrefix(n.Text, prefix) })
}

// Status is the newest status line.
func (m *Manager) Status() string {
	all := m.Heard("STATUS=")
	if len(all) == 0 {
		return ""
	}
	return strings.TrimPrefix(all[len(all)-1].Text, "STATUS=")
}
