package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tund/internal/keys"
)

// refusedBy checks that n has ended the session with CLOSE(protocol).
func refusedBy(t *testing.T, p *rawPeer, n *node, text string) {
	t.Helper()
	c := expect[Close](p)
	if c.Code != CloseProtocol || !strings.Contains(c.Text, text) {
		t.Errorf("got %+v, not %q", c, text)
	}
	_ = p.conn.Close()
	quiet()
	var end *CloseError
	if !n.isOver() || !errors.As(n.err, &end) || end.Code != CloseProtocol {
		t.Errorf("ended with %v", n.err)
	}
}

func TestMessagesThatAreNotPermittedEndTheSession(t *testing.T) {
	for _, m := range catalogue() {
		for _, greeted := range []bool{false, true} {
			if greeted != (m.Type() == TypeHello) || m.Type() == TypeClose {
				continue
			}
			t.Run(fmt.Sprintf("%s, greeted %t", m.Type(), greeted), func(t *testing.T) {
				inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
					p := w.against(ctx, w.a)
					if greeted {
						p.greet(w.b.hello)
					} else {
						expect[Hello](p)
					}
					p.send(m)
					refusedBy(t, p, w.a, m.Type().String()+" in state")
				})
			})
		}
	}
}

func TestMessagesThatDoNotFitTheExchangeEndTheSession(t *testing.T) {
	reply := catalogue()[2].(RekeyReply)
	for name, m := range map[string]Message{
		"a reply to nothing":            reply,
		"the end of nothing":            RekeyDone{Exchange: 2},
		"the abort of nothing":          Abort{Exchange: 2, Reason: 1},
		"the abort of our next":         Abort{Exchange: 1, Reason: 1},
		"a reiv reply to nothing":       ReivReply{Exchange: 1, Epoch: 1, Generation: 1, Index: 1},
		"the end of no reiv":            ReivDone{Exchange: 2, Epoch: 1, Generation: 1},
		"a request with our number":     Reiv{Exchange: 1, Epoch: 1, Generation: 1, Index: 1},
		"a pong without a ping":         Pong{},
		"a reply with a number of ours": RekeyReply{Exchange: 3, Body: reply.Body},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
				p := w.against(ctx, w.a)
				p.greet(w.b.hello)
				p.send(m)
				refusedBy(t, p, w.a, "")
			})
		})
	}
}

func TestGarbageEndsTheSession(t *testing.T) {
	for name, data := range map[string][]byte{
		"garbage":           frame([]byte("GET / HTTP/1.1")),
		"empty frame":       lengthOf(0),
		"huge frame":        lengthOf(1 << 31),
		"one byte too many": append(lengthOf(MaxMessage+1), make([]byte, 100)...),
	} {
		for _, greeted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, greeted %t", name, greeted), func(t *testing.T) {
				inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
					p := w.against(ctx, w.a)
					if greeted {
						p.greet(w.b.hello)
					} else {
						expect[Hello](p)
					}
					p.sendBytes(data)
					refusedBy(t, p, w.a, "")
				})
			})
		}
	}
}

// A connection that is closed with bytes unread is reset, and a CLOSE on it may be lost.
func TestWhatFollowsABadLengthIsReadBeforeTheConnectionCloses(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		p.sendBytes(lengthOf(1 << 31))
		p.sendBytes(make([]byte, 100<<10)) // blocks until it is read, as net.Pipe has no buffer
		refusedBy(t, p, w.a, "not between 1 and 65536")
	})
}

func TestStaleMessagesAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		w.a.s.Rekey()
		m := expect[Rekey](p)
		after(10 * time.Second)
		p.send(Ping{})
		expect[Pong](p)
		after(11 * time.Second)
		if a := expect[Abort](p); a.Exchange != m.Exchange || a.Reason != AbortTimeout {
			t.Fatalf("%+v", a)
		}
		p.send(Abort{Exchange: m.Exchange, Reason: AbortTimeout})
		p.send(RekeyReply{Exchange: m.Exchange})
		if a := expect[Abort](p); a.Exchange != m.Exchange || a.Reason != AbortGone {
			t.Fatalf("a late reply was answered with %+v", a)
		}
		w.a.s.Rekey()
		if next := expect[Rekey](p); next.Exchange != m.Exchange+2 || next.Epoch != m.Epoch+1 {
			t.Errorf("next: %d, %d", next.Exchange, next.Epoch)
		}
	})
}

func TestEpochsThatDoNotGrowAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		m := catalogue()[1].(Rekey)
		m.Preshared = false
		for i, c := range []struct {
			epoch  keys.Epoch
			reason AbortReason
		}{{5, AbortCrypto}, {5, AbortEpoch}, {4, AbortEpoch}, {6, AbortCrypto}} {
			m.Exchange, m.Epoch = Exchange(2*i+2), c.epoch
			p.send(m) // its ML-KEM key is none
			if a := expect[Abort](p); a.Exchange != m.Exchange || a.Reason != c.reason {
				t.Errorf("epoch %d: %+v", c.epoch, a)
			}
		}
		w.a.s.Rekey()
		if own := expect[Rekey](p); own.Epoch != 7 {
			t.Errorf("proposed epoch %d", own.Epoch)
		}
	})
}

func TestSecondRequestOfThePeerEndsTheSession(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.a.installDelay = 5 * time.Second
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		l := w.opponent(t, p)
		l.rekey(2, 1)
		quiet()
		l.rekey(4, 2) // waits until the first is installed
		quiet()
		l.rekey(6, 3)
		refusedBy(t, p, w.a, "while another one waits")
	})
}

func TestRequestBeforeTheEndOfTheLastEndsTheSession(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		l := w.opponent(t, p)
		l.rekey(2, 1)
		expect[RekeyReply](p)
		l.rekey(4, 2)
		refusedBy(t, p, w.a, "before the end")
		if len(events[Drop](w.a)) != 0 {
			t.Error("a key was dropped that the peer may send with")
		}
	})
}

func TestRequestDuringInstallingWaitsForItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.a.installDelay = time.Second
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		l := w.opponent(t, p)
		l.rekey(2, 1)
		quiet()
		p.send(Abort{Exchange: 2, Reason: AbortTimeout})
		l.rekey(4, 2)
		if r := expect[RekeyReply](p); r.Exchange != 4 {
			t.Errorf("replied to %d", r.Exchange)
		}
		if d := last[Drop](t, w.a); d.KeyID != 1 {
			t.Errorf("%+v", d)
		}
	})
}

func TestWrongTagWithoutPresharedKeyEndsTheSession(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		w.a.s.Rekey()
		m := expect[Rekey](p)
		x := &exchange{index: 7}
		shares, body, err := respond(m, x)
		if err != nil {
			t.Fatal(err)
		}
		shares.wipe()
		p.send(RekeyReply{Exchange: m.Exchange, Body: body, Tag: [32]byte{1}})
		if a := expect[Abort](p); a.Reason != AbortConfirm {
			t.Errorf("%+v", a)
		}
		if c := expect[Close](p); c.Code != CloseConfirm {
			t.Errorf("%+v", c)
		}
		if len(events[InstallKey](w.a)) != 0 {
			t.Error("a key was installed")
		}
	})
}

func TestWrongTagOfDoneEndsTheSessionAndDropsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		w.opponent(t, p).rekey(2, 1)
		expect[RekeyReply](p)
		p.send(RekeyDone{Exchange: 2, Tag: [32]byte{1}})
		refusedBy(t, p, w.a, "tag")
		if len(events[Drop](w.a))+len(events[Activate](w.a)) != 0 {
			t.Errorf("%v", kinds(w.a))
		}
	})
}

func TestLateAbortDoesNotStopAnInitiatorWithAGoodReply(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		l := w.opened(ctx)
		w.first()
		w.a.installDelay = time.Second
		w.a.s.Rekey()
		quiet()
		// Only a faulty peer would send it now.
		data := mustEncode(t, Abort{Exchange: w.a.s.exchange.ours, Reason: AbortTimeout})
		if _, err := l.mid[0].Write(frame(data)); err != nil {
			t.Fatal(err)
		}
		after(2 * time.Second)
		w.sameEpoch()
		if e := last[Exchanged](t, w.a); e.Epoch != 2 {
			t.Errorf("%+v", e)
		}
	})
}

// opponent sends well-formed requests as a raw peer.
type opponent struct {
	t *testing.T
	p *rawPeer
	s *Session
}

func (w *world) opponent(t *testing.T, p *rawPeer) *opponent {
	t.Helper()
	o := Options{Conn: &Conn{}, Identity: w.b.identity, Indexes: w.b.indexes, Secrets: w.b}
	return &opponent{t: t, p: p, s: New(o)}
}

func (o *opponent) rekey(id Exchange, epoch keys.Epoch) {
	o.t.Helper()
	m, err := o.s.prepare(&exchange{id: id, epoch: epoch})
	if err != nil {
		o.t.Fatal(err)
	}
	o.p.send(m)
}
