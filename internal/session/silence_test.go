package session

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/keys"
)

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

// Over real TCP, where unread bytes make a reset of a close.
func TestScannerSeesNothingButAReset(t *testing.T) {
	t.Parallel()
	b := seed(2)
	var group sync.WaitGroup
	for name, data := range map[string][]byte{
		"nothing":                 nil,
		"a byte":                  {22},
		"http":                    []byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n" + strings.Repeat("x", 100)),
		"garbage":                 []byte(strings.Repeat("\xff", 100<<10)),
		"prelude for another key": capture(t, seed(1), seed(3).Public()),
	} {
		h := startListener(t, "127.0.0.1:0", b, seed(1).Public())
		group.Go(func() { // ends when the listener has closed the connection
			raw, err := net.Dial("tcp", h.target().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer closeQuietly(raw)
			_, _ = raw.Write(data)
			_ = raw.SetReadDeadline(time.Now().Add(60 * time.Second)) // it hangs
			if n, err := raw.Read(make([]byte, 1)); n != 0 || !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
			h.refused(t, Refusals{Prelude: 1})
		})
	}
	group.Wait()
}
