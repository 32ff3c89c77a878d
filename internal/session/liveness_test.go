package session

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestShutdownIsAnsweredByClose(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.first()
		w.a.s.Shutdown("maintenance\nof the site", true)
		quiet()
		if e := last[ShutdownReceived](t, w.b); e.Reason != "maintenance?of the site" || !e.StayDown {
			t.Errorf("%+v", e)
		}
		if e := last[Closed](t, w.a); e.Err != nil || e.Code != CloseShutdown || !e.Remote {
			t.Errorf("sender: %+v", e)
		}
		if e := last[Closed](t, w.b); e.Code != CloseShutdown || e.Remote {
			t.Errorf("receiver: %+v", e)
		}
	})
}

func TestShutdownThatIsNotAnsweredEndsAfterThreeSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		quiet()
		w.a.s.Shutdown("", false)
		expect[Shutdown](p)
		after(2900 * time.Millisecond)
		if w.a.isOver() {
			t.Fatal("too early")
		}
		after(200 * time.Millisecond)
		if !w.a.isOver() || !errors.Is(w.a.err, ErrNoClose) {
			t.Fatal(w.a.err)
		}
	})
}

func TestBothEndsMayShutDownAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		l := w.opened(ctx)
		l.latency = 10 * time.Millisecond
		w.a.s.Shutdown("a", false)
		w.b.s.Shutdown("b", false)
		after(time.Second)
		for _, n := range []*node{w.a, w.b} {
			if e := last[Closed](t, n); e.Err != nil || e.Code != CloseShutdown {
				t.Errorf("%s: %+v", n.name, e)
			}
			last[ShutdownReceived](t, n)
		}
	})
}

func TestCloseTellsThePeerWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.a.s.Close(CloseDuplicate, "another session goes on")
		quiet()
		if e := last[Closed](t, w.a); e.Err != nil || e.Code != CloseDuplicate || e.Remote {
			t.Errorf("sender: %+v", e)
		}
		var end *CloseError
		if e := last[Closed](t, w.b); !errors.As(e.Err, &end) || end.Text != "another session goes on" || !e.Remote || e.Code != CloseDuplicate {
			t.Errorf("receiver: %+v", e)
		}
	})
}

func TestSilentPeerIsDeadAfterFifteenSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		l := w.opened(ctx)
		after(time.Minute)
		if w.a.isOver() || w.b.isOver() {
			t.Fatal("PING and PONG did not keep the session alive")
		}
		l.mu.Lock()
		l.latency = time.Millisecond // neither hears of the other's end before its own
		l.onFrame = func(bool, Message) bool { return false }
		l.mu.Unlock()
		after(9 * time.Second)
		if w.a.isOver() {
			t.Fatal("too early")
		}
		after(7 * time.Second)
		for _, n := range []*node{w.a, w.b} {
			if !n.isOver() || !errors.Is(n.err, ErrSilent) {
				t.Errorf("%s: %v", n.name, n.err)
			}
		}
	})
}

func TestPeerThatDoesNotReadIsDead(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		for range 40 { // it talks, but takes nothing
			p.sendBytes(frame(mustEncode(t, Ping{})))
			after(time.Second)
			if w.a.isOver() {
				break
			}
		}
		if !w.a.isOver() {
			t.Fatal("still waiting")
		}
	})
}

func TestFloodOfPingsThatAreNotReadEndsTheSession(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		for range queueLength + 10 {
			p.sendBytes(frame(mustEncode(t, Ping{})))
		}
		after(2 * time.Second)
		if !w.a.isOver() || !errors.Is(w.a.err, errNotReading) {
			t.Fatal(w.a.err)
		}
	})
}

func TestOwnerThatIsSlowDoesNotMakeThePeerDead(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		slept := false
		w.a.onStep = func() {
			if !slept {
				slept = true
				time.Sleep(14 * time.Second)
			}
		}
		w.a.s.Ping(1)
		w.a.s.Ping(2)
		after(30 * time.Second)
		if w.a.isOver() || w.b.isOver() {
			t.Errorf("%v, %v", w.a.err, w.b.err)
		}
	})
}

func TestPingOfTheOwnerIsAnsweredWithItsNumber(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		after(12 * time.Second) // among the session's own
		w.a.s.Ping(7)
		w.a.s.Ping(8)
		quiet()
		if got := events[PongReceived](w.a); len(got) != 2 || got[0].ID != 7 || got[1].ID != 8 {
			t.Errorf("%v", got)
		}
	})
}

func TestPingsWithoutAnswerAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		l := w.opened(ctx)
		l.mu.Lock()
		l.onFrame = func(fromA bool, m Message) bool { return fromA || m.Type() != TypePong }
		l.mu.Unlock()
		for id := range uint64(2 * maxPings) {
			w.a.s.Ping(id)
		}
		after(time.Minute) // what else the peer sends keeps it alive
		if w.a.isOver() || len(w.a.s.live.sent) != maxPings {
			t.Errorf("%d PINGs, %v", len(w.a.s.live.sent), w.a.err)
		}
	})
}

func TestHeldSessionStartsAndAnswersNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.b.s.Hold(true)
		w.b.s.Reiv()
		w.a.s.Rekey()
		after(time.Second)
		if len(events[Wanted](w.b)) != 1 || len(events[InstallKey](w.b)) != 0 || len(events[Exchanged](w.b)) != 0 {
			t.Fatalf("held: %v", kinds(w.b))
		}
		w.b.s.Hold(false)
		after(time.Second)
		for _, n := range []*node{w.a, w.b} {
			if e := last[Exchanged](t, n); e.Err != nil || e.Epoch != 1 {
				t.Errorf("%s: %+v", n.name, e)
			}
		}
	})
}

func TestHeldBeforeRunHoldsFromTheFirstMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.begin(ctx)
		w.b.s.Hold(true)
		w.a.s.Rekey()
		after(21 * time.Second) // the initiator gives up
		for _, n := range []*node{w.a, w.b} {
			if all := events[Exchanged](n); len(all) != 1 || all[0].Reason != AbortTimeout {
				t.Fatalf("%s: %+v", n.name, all)
			}
		}
		w.a.s.Rekey()
		w.b.s.Hold(false)
		after(time.Second)
		if e := last[Exchanged](t, w.b); e.Err != nil || e.Epoch != 2 {
			t.Errorf("%+v", e)
		}
	})
}

func TestContextEndsTheSessionWithoutAWord(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		inner, cancel := context.WithCancel(ctx)
		l := w.begin(inner)
		quiet()
		w.a.s.Rekey()
		cancel()
		quiet()
		if !w.a.isOver() || w.a.err != nil {
			t.Errorf("%v", w.a.err)
		}
		for _, f := range l.frames {
			if strings.HasSuffix(f, "CLOSE") {
				t.Error("a CLOSE was sent")
			}
		}
	})
}

func TestIndexesThatWereNotHandedOverAreReleased(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.a)
		p.greet(w.b.hello)
		w.a.s.Rekey()
		m := expect[Rekey](p)
		var x *exchange
		w.a.s.commands.post(func() error { x = w.a.s.exchange.inFlight; return nil })
		quiet()
		if x == nil || x.index != m.Index {
			t.Fatalf("in flight: %+v", x)
		}
		_ = p.conn.Close()
		quiet()
		if !w.a.isOver() || x.index != 0 || x.agreement.mlkem != nil {
			t.Error("the index or the ephemeral keys are still there")
		}
	})
}

func mustEncode(t *testing.T, m Message) []byte {
	t.Helper()
	data, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
