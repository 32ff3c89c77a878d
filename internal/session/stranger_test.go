package session

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/keys"
)

// impostor dials with the certificate of one identity and the private key of another, and
// returns what the listener answers to that.
func impostor(t *testing.T, h *hall, listener keys.PublicKey, claimed *keys.Identity) string {
	t.Helper()
	config, err := clientConfig(seed(77), listener)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tlsConfig(claimed)
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates[0].Certificate = theirs.Certificates[0].Certificate
	raw, err := net.Dial("tcp", h.target().String())
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(raw)
	_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
	stream := tls.Client(&preludeWriter{Conn: raw, listener: listener}, config)
	if err := stream.Handshake(); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Read(make([]byte, 1))
	if err == nil {
		t.Fatal("an impostor got an answer")
	}
	return err.Error()
}

func TestWhoProvesNothingCannotFindOutWhichKeysAreConfigured(t *testing.T) {
	t.Parallel()
	configured, b, unknown := seed(1), seed(2), seed(3)
	h := startListener(t, "127.0.0.1:0", b, configured.Public())
	one, other, own := impostor(t, h, b.Public(), configured), impostor(t, h, b.Public(), unknown), impostor(t, h, b.Public(), b)
	if one != other || one != own {
		t.Errorf("a configured key is answered with %q, an unknown one with %q, the listener's own with %q", one, other, own)
	}
	h.refused(t, Refusals{TLS: 3})
}

func TestStalledHandshakesKeepNoPeerOut(t *testing.T) {
	inMemoryNode(t, func(t *testing.T, s *memoryNode) {
		a, listener := seed(1), s.identity.Public()
		d := s.listen(a.Public())
		record := firstRecord(t, listener)
		for range 20 { // six addresses, as fast as they can, for twenty seconds
			for n := range 240 {
				d.stall(addr4(n%6), appendPrelude(listener, record))
				synctest.Wait()
			}
			if err := d.dial(t, addr4(1000), a, listener); err != nil {
				t.Fatalf("the peer is kept out: %v", err)
			}
			time.Sleep(time.Second) // four a second are what one address may do
		}
		synctest.Wait()
		if n := len(s.accepted); n != 20 {
			t.Errorf("%d of 20 accepted", n)
		}
		for range len(s.accepted) {
			_ = (<-s.accepted).Close()
		}
	})
}

func TestPeersAreExpectedWhereStrangersFloodTheListener(t *testing.T) {
	inMemoryNode(t, func(t *testing.T, s *memoryNode) {
		s.preferred = netip.MustParsePrefix("198.51.100.0/24")
		a, listener := seed(1), s.identity.Public()
		d := s.listen(a.Public())
		record := firstRecord(t, listener)
		answered := 0
		for range 5 {
			var flood []*observed
			for n := range 1000 {
				flood = append(flood, d.stall(addr4(n), appendPrelude(listener, record)))
			}
			if err := d.dial(t, netip.MustParseAddr("198.51.100.7"), a, listener); err != nil {
				t.Fatalf("the peer is kept out: %v", err)
			}
			synctest.Wait()
			for _, o := range flood {
				if o.sight().bytes > 0 {
					answered++
				}
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := len(s.accepted); n != 5 {
			t.Errorf("%d of 5 accepted", n)
		}
		for range len(s.accepted) {
			_ = (<-s.accepted).Close()
		}
		if limit := handshakeBurst + 4*handshakesPerSecond; answered > limit || answered < handshakeBurst {
			t.Errorf("%d handshakes were begun for strangers in 4 s, not %d", answered, limit)
		}
	})
}

func TestUnknownKeyThatTriesAgainIsLoggedOnce(t *testing.T) {
	inMemoryNode(t, func(t *testing.T, s *memoryNode) {
		var lines bytes.Buffer
		s.log = slog.New(slog.NewTextHandler(&lines, nil))
		d, unknown := s.listen(), seed(3)
		for range 5 {
			if err := d.dial(t, addr4(7), unknown, s.identity.Public()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		want := "level=WARN msg=\"unknown public key refused\" key=\"" + unknown.Public().String() + "\" endpoint=10.0.0.7:4000"
		if text := lines.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, want) {
			t.Errorf("%s is not once %s", text, want)
		}
		if found := s.admission.RefusedKeys(); len(found) != 1 || found[0].Count != 5 {
			t.Errorf("%+v", found)
		}
	})
}

func TestClientHasTwoSecondsAfterOurAnswer(t *testing.T) {
	inMemoryNode(t, func(t *testing.T, s *memoryNode) {
		d := s.listen()
		o := d.stall(addr4(1), appendPrelude(s.identity.Public(), firstRecord(t, s.identity.Public())))
		time.Sleep(time.Minute)
		if got := o.sight(); got.bytes == 0 || got.closed-got.answered != 2*time.Second {
			t.Errorf("%+v", got)
		}
		if r := s.admission.Refused(); r != (Refusals{TLS: 1}) {
			t.Errorf("%+v", r)
		}
	})
}

func TestAllListenersOfANodeRememberPreludes(t *testing.T) {
	inMemoryNode(t, func(t *testing.T, s *memoryNode) {
		one, other := s.listen(), s.listen()
		opening := appendPrelude(s.identity.Public(), firstRecord(t, s.identity.Public()))
		first := one.stall(addr4(1), opening)
		synctest.Wait()
		again := other.stall(addr4(2), opening)
		time.Sleep(time.Minute)
		if first.sight().bytes == 0 || again.sight().bytes != 0 {
			t.Errorf("%d bytes, and %d to the replay", first.sight().bytes, again.sight().bytes)
		}
		if r := s.admission.Refused(); r.Replay != 1 {
			t.Errorf("%+v", r)
		}
	})
}

func TestScannerSeesTheSameWhateverItSends(t *testing.T) {
	good := func(t *testing.T, s *memoryNode) []byte {
		return appendPrelude(s.identity.Public(), firstRecord(t, s.identity.Public()))
	}
	sent := map[string]func(t *testing.T, s *memoryNode) []byte{
		"nothing":  func(*testing.T, *memoryNode) []byte { return nil },
		"one byte": func(*testing.T, *memoryNode) []byte { return []byte{22} },
		"a request": func(*testing.T, *memoryNode) []byte {
			return []byte("GET / HTTP/1.1\r\nHost: example.net\r\nAccept: */*\r\n\r\n\r\n\r\n")
		},
		"half a prelude":      func(t *testing.T, s *memoryNode) []byte { return good(t, s)[:40] },
		"a ClientHello alone": func(t *testing.T, s *memoryNode) []byte { return firstRecord(t, s.identity.Public()) },
		"a record too long": func(*testing.T, *memoryNode) []byte {
			return append(make([]byte, randomSize+macSize), 22, 3, 1, 0x40, 0)
		},
		"another ClientHello": func(t *testing.T, s *memoryNode) []byte {
			return append(good(t, s)[:randomSize+macSize], firstRecord(t, s.identity.Public())...)
		},
		"half a record": func(t *testing.T, s *memoryNode) []byte { return good(t, s)[:200] },
		"for another listener": func(t *testing.T, _ *memoryNode) []byte {
			return appendPrelude(seed(5).Public(), firstRecord(t, seed(5).Public()))
		},
		"much": func(*testing.T, *memoryNode) []byte { return make([]byte, 1<<20) },
		"a replay": func(t *testing.T, s *memoryNode) []byte {
			opening := good(t, s)
			s.admission.seen.add([randomSize]byte(opening))
			return opening
		},
		"more than its budget": func(t *testing.T, s *memoryNode) []byte {
			for s.admission.budgets[ordinary].take(sourceOf(addr4(1))) {
			}
			return good(t, s)
		},
	}
	for name, send := range sent {
		for _, leaves := range []bool{false, true} {
			inMemoryNode(t, func(t *testing.T, s *memoryNode) {
				c, o := s.listen().connect(addr4(1))
				go func() {
					_, _ = c.Write(send(t, s))
					if leaves {
						_ = c.Close()
					}
				}()
				time.Sleep(4*time.Second - 1)
				synctest.Wait()
				if got := o.sight(); got.closed != 0 {
					t.Errorf("%s, leaves %t: %+v", name, leaves, got)
				}
				time.Sleep(2*time.Second + 1)
				synctest.Wait()
				if got := o.sight(); !got.reset || got.closed == 0 || got.bytes != 0 {
					t.Errorf("%s, leaves %t: %+v", name, leaves, got)
				}
				_ = c.Close()
			})
		}
	}
}

func TestConnectionThatMakesRoomIsResetLikeAllOthers(t *testing.T) {
	inMemoryNode(t, func(t *testing.T, s *memoryNode) {
		d := s.listen()
		var all []*observed
		for range maxPreludesPerHost + 1 {
			c, o := d.connect(addr4(1))
			all = append(all, o)
			_, _ = c.Write([]byte("unread for sure, but for the first bytes"))
			defer closeQuietly(c)
		}
		synctest.Wait()
		if got := all[0].sight(); !got.reset || got.closed == 0 || got.bytes != 0 || all[1].sight().closed != 0 {
			t.Errorf("%+v, the next %+v", got, all[1].sight())
		}
		time.Sleep(time.Minute)
		if r := s.admission.Refused(); r != (Refusals{Limit: 1, Prelude: maxPreludesPerHost}) {
			t.Errorf("%+v", r)
		}
	})
}
