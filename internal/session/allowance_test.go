package session

import (
	"context"
	"errors"
	"testing"
	"time"

	"tund/internal/keys"
)

// exceeds lets a raw peer send until its session ends, and returns how many messages that
// took. It fails the test unless it is told why.
func exceeds(t *testing.T, w *world, p *rawPeer, send func(i int)) (count int) {
	t.Helper()
	told := make(chan Close, 1)
	go func() { // ends with the connection
		for {
			data, err := readFrame(p.conn)
			if err != nil {
				close(told)
				return
			}
			if m, err := Decode(data); err == nil {
				if c, ok := m.(Close); ok {
					told <- c
				}
			}
		}
	}()
	for count = 0; count < 10_000 && !w.b.isOver(); count++ {
		send(count)
		quiet()
		if len(told) > 0 {
			break
		}
	}
	after(3 * time.Second)
	c, ok := <-told
	if !ok || c.Code != CloseLimit || c.Text == "" {
		t.Fatalf("after %d messages it was told %+v", count, c)
	}
	var end *CloseError
	if !w.b.isOver() || !errors.As(w.b.err, &end) || end.Code != CloseLimit || end.Remote {
		t.Fatalf("the session ended with %v", w.b.err)
	}
	return count
}

// An implementation that has the right key may do as it likes: what that costs is bounded.
func TestAPeerThatExceedsItsAllowanceIsCutOff(t *testing.T) {
	key := make([]byte, 1184)
	x25519 := make([]byte, 32)
	x25519[0] = 9
	for name, test := range map[string]struct {
		limit int
		send  func(p *rawPeer, i int)
	}{
		"PING": {pingBurst, func(p *rawPeer, _ int) { p.send(Ping{}) }},
		"REKEY and ABORT": {rekeyBurst, func(p *rawPeer, i int) {
			id := Exchange(2*i + 1)
			p.send(Rekey{Exchange: id, Epoch: keys.Epoch(i + 1), X25519: x25519, MLKEM: key, Index: 1})
			p.send(Abort{Exchange: id, Reason: AbortTimeout})
		}},
		"REIV": {reivBurst, func(p *rawPeer, i int) {
			p.send(Reiv{Exchange: Exchange(2*i + 1), Epoch: 7, Generation: 1, Index: 1})
		}},
		"what is ignored": {messageBurst, func(p *rawPeer, i int) {
			if i == 0 {
				p.send(Reiv{Exchange: 1, Epoch: 7, Generation: 1, Index: 1})
			}
			p.send(Abort{Exchange: 1, Reason: AbortTimeout})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
				p := w.against(ctx, w.b)
				p.greet(w.a.hello)
				count := exceeds(t, w, p, func(i int) { test.send(p, i) })
				if count < test.limit-10 || count > test.limit+10 {
					t.Errorf("it took %d messages, and %d are granted", count, test.limit)
				}
			})
		})
	}
}

// The allowance is the peer's: another session brings no other.
func TestANewSessionBringsNoNewAllowance(t *testing.T) {
	a := NewAllowance()
	for range pingBurst {
		if err := a.kind(TypePing); err != nil {
			t.Fatal(err)
		}
	}
	if a.kind(TypePing) == nil || a.kind(TypeRekey) != nil || a.kind(TypePong) != nil {
		t.Error("what is granted is not that of each kind")
	}
}

func TestAnAllowanceFillsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, _ context.Context, _ *world) {
		a := NewAllowance()
		for range pingBurst {
			_ = a.kind(TypePing)
		}
		after(time.Second)
		for range pingsPerSecond {
			if err := a.kind(TypePing); err != nil {
				t.Error(err)
			}
		}
		if a.kind(TypePing) == nil {
			t.Error("more than a second's worth has come back")
		}
	})
}
