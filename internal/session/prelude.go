package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"tund/internal/keys"
)

// The prelude is what a dialler sends before and together with its first TLS record. It
// proves that the dialler knows the listener's public key, so that a scanner gets no answer.
//
//	+------------+----------+-----------------------------------------+
//	| random(16) | MAC(32)  | first TLS record: header(5), ClientHello |
//	+------------+----------+-----------------------------------------+
//
// The MAC covers the random and the hash of the record, and with it the ClientHello's key
// share: who replays a prelude cannot read the answer to it.
const (
	randomSize       = 16
	macSize          = 32
	recordHeaderSize = 5
	recordHandshake  = 22 // RFC 8446, section 5.1
	maxRecord        = 4 << 10
	// replayMemory is how many randoms are remembered.
	replayMemory = 65536
)

var (
	errPrelude = errors.New("prelude refused")
	errReplay  = errors.New("prelude replayed")
)

// recordLength is the length of the TLS record that begins with header, header included.
func recordLength(header []byte) (int, bool) {
	n := recordHeaderSize + int(binary.BigEndian.Uint16(header[3:]))
	ok := header[0] == recordHandshake && header[1] == 3 && n > recordHeaderSize && n <= maxRecord
	return n, ok
}

// preludeWriter puts the prelude in front of the first record that TLS writes. Go's TLS
// writes its ClientHello in one call, as one record; anything else is refused here.
type preludeWriter struct {
	net.Conn
	listener keys.PublicKey
	sent     bool // owned by the handshake, which is one goroutine
}

func (p *preludeWriter) Write(record []byte) (int, error) {
	if p.sent {
		return p.Conn.Write(record)
	}
	if len(record) < recordHeaderSize {
		return 0, errors.New("first TLS record incomplete")
	}
	if n, ok := recordLength(record); !ok || n != len(record) {
		return 0, errors.New("first TLS record not in one piece")
	}
	p.sent = true
	if _, err := p.Conn.Write(appendPrelude(p.listener, record)); err != nil {
		return 0, err
	}
	return len(record), nil
}

// appendPrelude gives the prelude and the record.
func appendPrelude(listener keys.PublicKey, record []byte) []byte {
	var random [randomSize]byte
	_, _ = rand.Read(random[:]) // never fails
	mac := keys.PreludeMAC(listener, random, sha256.Sum256(record))
	return append(append(random[:], mac[:]...), record...)
}

// prelude is what the listener has read.
type prelude struct {
	random [randomSize]byte
	mac    [macSize]byte
	record []byte
}

// readPrelude reads as much as there must be, and never more than 4 KiB of a record.
func readPrelude(r io.Reader) (p prelude, err error) {
	var head [randomSize + macSize + recordHeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return p, err
	}
	copy(p.random[:], head[:])
	copy(p.mac[:], head[randomSize:])
	header := head[randomSize+macSize:]
	n, ok := recordLength(header)
	if !ok {
		return p, errPrelude
	}
	p.record = make([]byte, n)
	copy(p.record, header)
	_, err = io.ReadFull(r, p.record[recordHeaderSize:])
	return p, err
}

// check tells whether the prelude is meant for this listener, and new.
func (p *prelude) check(listener keys.PublicKey, seen *replays) error {
	mac := keys.PreludeMAC(listener, p.random, sha256.Sum256(p.record))
	if !hmac.Equal(mac[:], p.mac[:]) {
		return errPrelude
	}
	if !seen.add(p.random) {
		return errReplay
	}
	return nil
}

// replays remembers the last randoms of good preludes. It is asked only after the MAC was
// good, so that strangers cannot push anything out of it. Safe for concurrent use.
type replays struct {
	mu    sync.Mutex
	known map[[randomSize]byte]bool
	ring  [][randomSize]byte
	next  int
}

func newReplays() *replays { return &replays{known: make(map[[randomSize]byte]bool)} }

// add says whether random is new, and remembers it.
func (r *replays) add(random [randomSize]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[random] {
		return false
	}
	if len(r.ring) < replayMemory {
		r.ring = append(r.ring, random)
	} else {
		delete(r.known, r.ring[r.next])
		r.ring[r.next] = random
		r.next = (r.next + 1) % replayMemory
	}
	r.known[random] = true
	return true
}
