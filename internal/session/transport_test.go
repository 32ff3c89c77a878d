package session

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/internal/keys"
)

// hall is a listener under test on the loopback, and what it has accepted.
type hall struct {
	*Listener
	accepted chan *Conn
}

func startListener(t *testing.T, addr string, id *keys.Identity, known ...keys.PublicKey) *hall {
	t.Helper()
	h := &hall{accepted: make(chan *Conn, 16)}
	l, err := Listen(netip.MustParseAddrPort(addr), ListenerOptions{
		Log: slog.New(slog.DiscardHandler), Identity: id, Admission: NewAdmission(),
		Known: func(k keys.PublicKey) bool {
			return slices.Contains(known, k)
		},
		Preferred: func(netip.Addr) bool { return false },
		Accepted:  func(c *Conn) { h.accepted <- c },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Listener = l
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("listener: %v", err)
		}
	})
	return h
}

func closeQuietly(c io.Closer) { _ = c.Close() }

// Refused gives the counters.
func (h *hall) Refused() Refusals { return h.o.Admission.Refused() }

// refused waits for the counters: a connection may be closed before it is counted.
func (h *hall) refused(t *testing.T, want Refusals) {
	t.Helper()
	for range 2000 {
		if h.Refused() == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("refused %+v, not %+v", h.Refused(), want)
}

// target is where the listener is reached over IPv4.
func (h *hall) target() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), h.Addr().Port())
}

func (h *hall) accept(t *testing.T) *Conn {
	t.Helper()
	select {
	case c := <-h.accepted:
		t.Cleanup(func() { _ = c.Close() })
		return c
	case <-time.After(time.Minute):
		t.Fatal("nothing accepted")
		return nil
	}
}

func dialTo(t *testing.T, h *hall, id *keys.Identity, peer keys.PublicKey) *Conn {
	t.Helper()
	var steps []State
	d := Dialer{Identity: id}
	c, err := d.Dial(t.Context(), h.target(), peer, func(s State) { steps = append(steps, s) })
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || steps[0] != Connecting || steps[1] != Authenticating {
		t.Errorf("steps %v", steps)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestTwoNodesAuthenticateEachOther(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "[::]:0", "0.0.0.0:0"} {
		a, b := seed(1), seed(2)
		h := startListener(t, addr, b, a.Public())
		d := dialTo(t, h, a, b.Public())
		l := h.accept(t)
		if d.Peer() != b.Public() || l.Peer() != a.Public() || !d.Dialled() || l.Dialled() {
			t.Error("the ends know each other wrongly")
		}
		if d.exporter.IsZero() || !d.exporter.Equal(&l.exporter) {
			t.Error("the exporters differ")
		}
		if l.Remote() != d.Local() || l.Local() != d.Remote() || !l.Remote().Addr().Is4() {
			t.Errorf("addresses %s, %s, %s, %s", d.Local(), d.Remote(), l.Local(), l.Remote())
		}
		state := d.stream.(*tls.Conn).ConnectionState()
		if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 || state.NegotiatedProtocol != "" {
			t.Errorf("%+v", state)
		}
		if r := h.Refused(); r != (Refusals{}) {
			t.Errorf("%+v", r)
		}
	}
}

// ran is the end of a session over real TCP.
type ran struct {
	s      *Session
	events chan Event
	err    chan error
}

func runOver(t *testing.T, c *Conn, id *keys.Identity, instance byte) *ran {
	t.Helper()
	r := &ran{events: make(chan Event, 100), err: make(chan error, 1)}
	var kid keys.KeyID
	r.s = New(Options{
		Log: slog.New(slog.DiscardHandler), Conn: c, Identity: id, Secrets: &node{},
		Hello:   Hello{Mode: "tun", Instance: [16]byte{instance}, AEADs: []keys.AEAD{keys.AES256GCM}},
		Indexes: keys.NewIndexes(time.Now), NextKeyID: func() keys.KeyID { kid++; return kid }, Allowance: NewAllowance(), Events: r.events,
	})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { r.err <- r.s.Run(ctx) }()
	return r
}

// await takes events, as an owner whose child is quick, up to one of type E.
func await[E EventBody](t *testing.T, r *ran) E {
	t.Helper()
	for {
		select {
		case e := <-r.events:
			switch body := e.Body.(type) {
			case InstallKey:
				r.s.Installed(body.KeyID, 0, nil)
			case InstallIV:
				r.s.Installed(body.KeyID, body.Generation, nil)
			}
			if body, ok := e.Body.(E); ok {
				return body
			}
		case <-time.After(30 * time.Second):
			var none E
			t.Fatalf("no %T", none)
			return none
		}
	}
}

func TestWholeSessionOverTCP(t *testing.T) {
	t.Parallel()
	a, b := seed(1), seed(2)
	h := startListener(t, "127.0.0.1:0", b, a.Public())
	ra := runOver(t, dialTo(t, h, a, b.Public()), a, 1)
	rb := runOver(t, h.accept(t), b, 2)
	await[Established](t, ra)
	await[Established](t, rb)
	ra.s.Rekey()
	rb.s.Rekey()
	var group sync.WaitGroup
	for _, r := range []*ran{ra, rb} {
		group.Go(func() {
			if e := await[Exchanged](t, r); e.Err != nil {
				t.Error(e.Err)
			}
		})
	}
	group.Wait()
	ra.s.Close(CloseMode, "good-bye")
	if e := await[Closed](t, rb); e.Code != CloseMode || !e.Remote {
		t.Errorf("%+v", e)
	}
	if err := <-ra.err; err != nil {
		t.Error(err)
	}
}

func TestUnknownKeyIsRefusedAfterThePreludeAndTold(t *testing.T) {
	t.Parallel()
	a, b, c := seed(1), seed(2), seed(3)
	h := startListener(t, "127.0.0.1:0", b, c.Public())
	r := runOver(t, dialTo(t, h, a, b.Public()), a, 1)
	e := await[Closed](t, r)
	if e.Err == nil || e.Code != CloseUnknownKey || !strings.Contains(e.Err.Error(), "public key "+a.Public().String()+" is not configured at the remote node") {
		t.Errorf("%v", e.Err)
	}
	h.refused(t, Refusals{UnknownKey: 1})
	found := h.o.Admission.RefusedKeys()
	if len(found) != 1 || found[0].Key != a.Public() || found[0].Count != 1 || found[0].Remote != r.s.Local() {
		t.Errorf("%+v, and not from %s", found, r.s.Local())
	}
}

func TestOwnKeyIsRefusedAtBothEnds(t *testing.T) {
	t.Parallel()
	a := seed(1)
	h := startListener(t, "127.0.0.1:0", a, a.Public())
	d := Dialer{Identity: a}
	if _, err := d.Dial(t.Context(), h.target(), a.Public(), nil); !errors.Is(err, errOwnKey) {
		t.Error(err)
	}
	// Another program with our key gets past the prelude, but no further.
	raw, err := net.Dial("tcp", h.target().String())
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(raw)
	config, err := clientConfig(a, a.Public())
	if err != nil {
		t.Fatal(err)
	}
	stream := tls.Client(&preludeWriter{Conn: raw, listener: a.Public()}, config)
	_ = stream.Handshake()
	if data, err := readFrame(stream); err != nil || !isClose(data) {
		t.Errorf("%x, %v", data, err)
	}
	h.refused(t, Refusals{UnknownKey: 1})
}

func TestDiallerRefusesAnotherPinnedKey(t *testing.T) {
	t.Parallel()
	a, b, c := seed(1), seed(2), seed(3)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(l)
	go func() { // someone who knows the prelude, but is not the peer; ends after one connection
		raw, err := l.Accept()
		if err != nil {
			return
		}
		defer closeQuietly(raw)
		config, _ := serverConfig(c)
		if _, err := io.CopyN(io.Discard, raw, randomSize+macSize); err == nil {
			_ = tls.Server(raw, config).Handshake()
		}
	}()
	var wrong *WrongKeyError
	d := Dialer{Identity: a}
	_, err = d.Dial(t.Context(), addrPort(l.Addr()), b.Public(), nil)
	if !errors.As(err, &wrong) || wrong.Got != c.Public() || wrong.Want != b.Public() {
		t.Errorf("%v", err)
	}
}

func TestDialToAnotherKeySaysWhatMayBeWrong(t *testing.T) {
	t.Parallel()
	a, b, c := seed(1), seed(2), seed(3)
	h := startListener(t, "127.0.0.1:0", b, a.Public())
	d := Dialer{Identity: a}
	_, err := d.Dial(t.Context(), h.target(), c.Public(), nil)
	if err == nil || !strings.Contains(err.Error(), c.Public().String()+" is not the public key there") {
		t.Errorf("%v", err)
	}
}

func TestSlowStrangersDoNotKeepAPeerOut(t *testing.T) {
	t.Parallel()
	a, b := seed(1), seed(2)
	h := startListener(t, "127.0.0.1:0", b, a.Public())
	for n := range maxPreludes + 40 {
		from := &net.TCPAddr{IP: net.IPv4(127, 1, byte(n/4), byte(1+n/4))}
		if n < 20 {
			from.IP = net.IPv4(127, 0, 0, 1) // the peer's own address
		}
		d := net.Dialer{LocalAddr: from}
		raw, err := d.Dial("tcp", h.target().String())
		if err != nil {
			t.Fatal(err)
		}
		defer closeQuietly(raw)
	}
	dialTo(t, h, a, b.Public())
	h.accept(t)
	if n := len(membersOf(h, awaitingPrelude)); n > maxPreludes {
		t.Errorf("%d wait", n)
	}
}

func TestChangedIdentityServesTheNextConnection(t *testing.T) {
	t.Parallel()
	a, b, c := seed(1), seed(2), seed(3)
	h := startListener(t, "127.0.0.1:0", b, a.Public())
	before := dialTo(t, h, a, b.Public())
	if err := h.SetIdentity(c); err != nil {
		t.Fatal(err)
	}
	if got := dialTo(t, h, a, c.Public()); got.Peer() != c.Public() || before.Peer() != b.Public() {
		t.Error("wrong key")
	}
}

func TestListenerClosesItsGuestsAtTheEnd(t *testing.T) {
	t.Parallel()
	a, b := seed(1), seed(2)
	var raw net.Conn
	t.Run("listener", func(t *testing.T) {
		h := startListener(t, "127.0.0.1:0", b, a.Public())
		var err error
		if raw, err = net.Dial("tcp", h.target().String()); err != nil {
			t.Fatal(err)
		}
		for range 2000 {
			if len(membersOf(h, awaitingPrelude)) == 1 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatal("not admitted")
	})
	defer closeQuietly(raw)
	_ = raw.SetReadDeadline(time.Now().Add(time.Minute))
	var timeout net.Error
	if _, err := raw.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%v", err)
	}
}

func membersOf(h *hall, s stage) []*pending {
	a := h.o.Admission
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.pools[ordinary][s].members)
}

func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	a, b := seed(1), seed(2)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(l)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	d := Dialer{Identity: a}
	if _, err := d.Dial(ctx, addrPort(l.Addr()), b.Public(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestCertificateHasNothingButTheKey(t *testing.T) {
	t.Parallel()
	config, err := tlsConfig(seed(1))
	if err != nil {
		t.Fatal(err)
	}
	if config.ServerName != "" || len(config.NextProtos) != 0 || !config.SessionTicketsDisabled || config.MinVersion != tls.VersionTLS13 {
		t.Errorf("%+v", config)
	}
}
