package session

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/internal/keys"
)

// tries is how often a test that depends on its own pace begins anew: a busy machine is late.
const tries = 4

// silence checks that who sends data is hung up on in time without a byte, and returns how
// often it came to that.
func silence(t *testing.T, h *hall, name string, data []byte) (count uint64) {
	t.Helper()
	for range tries {
		count++
		begun := time.Now()
		n, err := knock(t, h, data)
		took := time.Since(begun)
		if n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d bytes after %s, %v", name, n, took, err)
		}
		if took < preludeLimit-preludeSpread {
			t.Errorf("%s: closed after %s", name, took)
		}
		if took < preludeLimit+preludeSpread+time.Second {
			return count
		}
	}
	t.Errorf("%s: closed too late each time", name)
	return count
}

// knock connects, sends data, and returns how much came back at first.
func knock(t *testing.T, h *hall, data []byte) (int, error) {
	t.Helper()
	raw, err := net.Dial("tcp", h.target().String())
	if err != nil {
		t.Error(err)
		return 0, err
	}
	defer closeQuietly(raw)
	_, _ = raw.Write(data)
	_ = raw.SetReadDeadline(time.Now().Add(30 * time.Second))
	return raw.Read(make([]byte, 1))
}

// capture gives the bytes with which a dialler begins.
func capture(t *testing.T, id *keys.Identity, peer keys.PublicKey) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer closeQuietly(far)
	config, err := clientConfig(id, peer)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when far is closed
		_ = tls.Client(&preludeWriter{Conn: near, listener: peer}, config).Handshake()
	}()
	buffer := make([]byte, 8<<10)
	n, err := far.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}

func TestListenerIsSilentToWhoDoesNotKnowIt(t *testing.T) {
	t.Parallel()
	a, b, c := seed(1), seed(2), seed(3)
	other := capture(t, a, b.Public())
	var group sync.WaitGroup
	mixed := append(append([]byte{}, capture(t, a, b.Public())[:randomSize+macSize]...), other[randomSize+macSize:]...)
	for name, data := range map[string][]byte{
		"nothing":                          nil,
		"a byte":                           {22},
		"http":                             []byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n" + strings.Repeat("x", 100)),
		"plain tls":                        other[randomSize+macSize:],
		"garbage":                          []byte(strings.Repeat("\xff", 100<<10)),
		"prelude for another key":          capture(t, a, c.Public()),
		"prelude with another ClientHello": mixed,
		"half a prelude":                   other[:len(other)/2],
		"record too long":                  append(make([]byte, randomSize+macSize), 22, 3, 1, 0x40, 0),
	} {
		h := startListener(t, "127.0.0.1:0", b, a.Public())
		group.Go(func() { // ends when the listener has closed the connection
			h.refused(t, Refusals{Prelude: silence(t, h, name, data)})
		})
	}
	group.Wait()
}

func TestReplayedPreludeIsRefusedInSilence(t *testing.T) {
	t.Parallel()
	a, b := seed(1), seed(2)
	h := startListener(t, "127.0.0.1:0", b, a.Public())
	data := capture(t, a, b.Public())
	first, err := net.Dial("tcp", h.target().String())
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(first)
	_, _ = first.Write(data)
	if n, err := first.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("the first got no answer: %v", err)
	}
	h.refused(t, Refusals{Replay: silence(t, h, "replay", data)})
}

func TestStalledHandshakeEndsAfterTenSeconds(t *testing.T) {
	t.Parallel()
	a, b := seed(1), seed(2)
	h := startListener(t, "127.0.0.1:0", b, a.Public())
	took, count := time.Hour, uint64(0)
	for ; took > handshakeLimit+2*time.Second && count < tries; count++ {
		took = stall(t, h, capture(t, a, b.Public()))
	}
	if took < handshakeLimit-time.Second || took > handshakeLimit+2*time.Second {
		t.Errorf("closed after %s", took)
	}
	h.refused(t, Refusals{TLS: count})
}

// stall begins a handshake and returns how long that was borne.
func stall(t *testing.T, h *hall, data []byte) time.Duration {
	t.Helper()
	begun := time.Now()
	raw, err := net.Dial("tcp", h.target().String())
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(raw)
	_, _ = raw.Write(data)
	_ = raw.SetReadDeadline(begun.Add(30 * time.Second))
	_, _ = io.Copy(io.Discard, raw)
	return time.Since(begun)
}
