package e2e

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"tund/e2e/lab"
)

// What strangers do who know the public key of a node and have many addresses.

func TestStalledConnectionsKeepNoPeerOut(t *testing.T) {
	t.Parallel()
	h := newHub(t, "one")
	h.Start()
	stranger := h.lab.Node("stranger")
	link := h.lab.Link(h.Node, stranger, 1500)
	h.IP("route", "add", "10.99.0.0/24", "via", link.Addr(stranger, 4).String())
	target := netip.AddrPortFrom(link.Addr(h.Node, 4), lab.Port).String()

	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	held := make(chan struct{}, 24)
	for n := range 24 { // four each from six addresses
		from := netip.AddrFrom4([4]byte{10, 99, 0, byte(1 + n%6)})
		if n < 6 {
			stranger.IP("address", "add", from.String()+"/32", "dev", link.Interface(stranger))
		}
		opening := openingFor(t, h.PublicKey())
		group.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				stallFrom(ctx, stranger, from, target, opening(), held)
			}
		})
	}
	for range 24 {
		<-held
	}
	h.spokes[0].Start() // nobody has seen it before, so it is an address like any other
	h.spokes[0].WaitState("hub", "up", lab.Patience)
	h.WaitState("one", "up", lab.Patience)
	lab.Until(t, lab.Patience, "stalled handshakes end and are counted", func() bool { return refusals(h.Node)["tls"] > 24 })
}

// stallFrom begins a handshake and waits until it is given up.
func stallFrom(ctx context.Context, n *lab.Node, from netip.Addr, target string, opening []byte, held chan<- struct{}) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: lab.Patience}
		conn, err = dialer.DialContext(ctx, "tcp", target)
		return err
	})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, _ = conn.Write(opening)
	first := make([]byte, 1)
	if n, _ := conn.Read(first); n == 1 {
		select {
		case held <- struct{}{}:
		default:
		}
	}
	_, _ = io.Copy(io.Discard, conn)
}

// openingFor makes preludes for a listener, each with the same ClientHello.
func openingFor(t *testing.T, listener string) func() []byte {
	t.Helper()
	public, err := base64.StdEncoding.DecodeString(strings.TrimSpace(listener))
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, public, nil, "tund v1 prelude\x00", 32)
	if err != nil {
		t.Fatal(err)
	}
	hello := &noted{}
	_ = tls.Client(hello, &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768},
	}).Handshake()
	sum := sha256.Sum256(hello.data)
	return func() []byte {
		random := make([]byte, 16)
		_, _ = rand.Read(random) // never fails
		mac := hmac.New(sha256.New, key)
		_, _ = fmt.Fprintf(mac, "%s%s", random, sum[:])
		return append(mac.Sum(random), hello.data...)
	}
}

// noted is a connection that keeps what it is given, and never answers.
type noted struct {
	net.Conn
	data []byte
}

func (c *noted) Write(b []byte) (int, error) { c.data = append(c.data, b...); return len(b), nil }
func (*noted) Read([]byte) (int, error)      { return 0, io.EOF }
func (*noted) Close() error                  { return nil }
