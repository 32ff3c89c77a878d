package lab

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Journal stands in for the journal of a node. Entries come by its own protocol,
// lines by standard error.
type Journal struct {
	conn *net.UnixConn
	done chan struct{}

	mu      sync.Mutex
	entries []map[string]string
}

// KeepJournal gives the node's tund a journal, from the next start on: its own /run with the journal's
// socket, in a mount namespace, and the mark that its standard error leads there.
func (n *Node) KeepJournal() *Journal {
	n.lab.tb.Helper()
	run := filepath.Join(n.Dir, "run")
	path := filepath.Join(run, "systemd", "journal", "socket")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	j := &Journal{conn: conn, done: make(chan struct{})}
	go j.listen() // ends with the lab
	n.lab.tb.Cleanup(func() {
		_ = conn.Close()
		<-j.done
	})
	n.Around = []string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /run && export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && exec "$@"`, run}
	return j
}

func (j *Journal) listen() {
	defer close(j.done)
	b := make([]byte, 1<<16)
	for {
		n, err := j.conn.Read(b)
		if err != nil {
			return
		}
		j.mu.Lock()
		j.entries = append(j.entries, parseEntry(b[:n]))
		j.mu.Unlock()
	}
}

// parseEntry reads the fields of an entry: NAME=VALUE, or a name, the length of the value
// in eight bytes, and the value.
func parseEntry(b []byte) map[string]string {
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		name, value, short := strings.Cut(string(line), "=")
		if !short && len(rest) >= 8 {
			size := binary.LittleEndian.Uint64(rest)
			if size >= uint64(len(rest))-8 {
				return fields
			}
			value, rest = string(rest[8:8+size]), rest[9+size:]
		}
		fields[name] = value
		b = rest
	}
	return fields
}

// Entries returns the entries whose field has that value, in order.
func (j *Journal) Entries(field, value string) []map[string]string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []map[string]string
	for _, e := range j.entries {
		if e[field] == value {
			found = append(found, e)
		}
	}
	return found
}
