package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/keys"
)

// inBubble runs a test in virtual time with two nodes; a, the dialler, has the smaller key.
func inBubble(t *testing.T, test func(t *testing.T, ctx context.Context, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		smaller, larger := twoIdentities()
		w := newWorld(t, smaller, larger)
		ctx, cancel := context.WithCancel(t.Context())
		defer func() {
			cancel()
			after(time.Minute) // everything ends
		}()
		test(t, ctx, w)
	})
}

func TestSessionIsEstablishedByTheHellos(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.b.hello.AEADs = []keys.AEAD{keys.ChaCha20Poly1305, keys.AES256GCM}
		w.opened(ctx)
		for _, n := range []*node{w.a, w.b} {
			e := last[Established](t, n)
			if e.Hello.Instance != w.other(n).hello.Instance {
				t.Errorf("%s: instance %x", n.name, e.Hello.Instance)
			}
			if e.AEAD != keys.AES256GCM {
				t.Errorf("%s: AEAD %s is not the smaller key's first", n.name, e.AEAD)
			}
		}
	})
}

func TestHellosThatDoNotFitAreRefusedWithAReason(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h *Hello)
		code   CloseCode
		text   string
	}{
		"version":  {func(h *Hello) { h.Versions = []uint16{2, 3} }, CloseVersion, "[2 3]"},
		"mode":     {func(h *Hello) { h.Mode = "tap" }, CloseMode, `"tap"`},
		"aead":     {func(h *Hello) { h.AEADs = []keys.AEAD{9} }, CloseAEAD, "aead"},
		"no aead":  {func(h *Hello) { h.AEADs = nil }, CloseAEAD, "aead"},
		"instance": {func(h *Hello) { h.Instance = [16]byte{0xa} }, CloseSelf, "same program"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
				c.change(&w.b.hello)
				w.begin(ctx)
				quiet()
				for _, n := range []*node{w.a, w.b} {
					var refusal *CloseError
					if !n.isOver() || !errors.As(n.err, &refusal) || refusal.Code != c.code || !strings.Contains(refusal.Text, c.text) {
						t.Errorf("%s ended with %v", n.name, n.err)
					}
					if e := last[Closed](t, n); e.Code != c.code {
						t.Errorf("%s: %+v", n.name, e)
					}
				}
			})
		})
	}
}

func TestRefusalIsSeenByAPeerThatAcceptsOurs(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.b)
		h := w.a.hello
		h.Mode = "tap"
		p.greet(h)
		if c := expect[Close](p); c.Code != CloseMode {
			t.Errorf("got %+v", c)
		}
	})
}

func TestSessionWithoutHelloEndsAfterTenSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		p := w.against(ctx, w.b)
		expect[Hello](p)
		after(9900 * time.Millisecond)
		if w.b.isOver() {
			t.Fatal("ended too early")
		}
		after(200 * time.Millisecond)
		if !w.b.isOver() || !errors.Is(w.b.err, ErrNoHello) {
			t.Fatalf("ended %v with %v", w.b.isOver(), w.b.err)
		}
	})
}

func TestRekeyGivesBothEndsTheSameKeys(t *testing.T) {
	for _, fromDialler := range []bool{true, false} {
		t.Run(fmt.Sprintf("dialler begins %t", fromDialler), func(t *testing.T) {
			inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
				l := w.opened(ctx)
				from, to := w.a, w.b
				if !fromDialler {
					from, to = to, from
				}
				for epoch := keys.Epoch(1); epoch <= 3; epoch++ {
					from.s.Rekey()
					after(100 * time.Millisecond)
					for _, n := range []*node{from, to} {
						e := last[Exchanged](t, n)
						if e.Err != nil || e.Epoch != epoch || e.Kind != KindRekey || e.Initiator != (n == from) || e.KeyID != n.nextID {
							t.Fatalf("%s: %+v", n.name, e)
						}
						if n.child.sending.kid != n.nextID {
							t.Errorf("%s still sends with key %d", n.name, n.child.sending.kid)
						}
					}
					i, r := last[InstallKey](t, from), last[InstallKey](t, to)
					if i.Send != r.Receive || i.Receive != r.Send || i.Send == i.Receive || i.SendIndex != r.ReceiveIndex || i.ReceiveIndex != r.SendIndex {
						t.Fatal("the keys of the two ends differ")
					}
					if !i.Activate || r.Activate {
						t.Error("the wrong end sends first")
					}
					w.traffic()
				}
				if got := strings.Join(l.frames, " "); strings.Count(got, "REKEY_DONE") != 3 {
					t.Error(got)
				}
			})
		})
	}
}

func TestReivKeepsTheKeyAndChangesTheIndexes(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.first()
		for g := keys.Generation(1); g <= 3; g++ {
			from := w.a
			if g == 2 {
				from = w.b
			}
			from.s.Reiv()
			after(100 * time.Millisecond)
			for _, n := range []*node{w.a, w.b} {
				e := last[Exchanged](t, n)
				if e.Err != nil || e.Generation != g || e.Epoch != 1 || e.Kind != KindReiv {
					t.Fatalf("%s: %+v", n.name, e)
				}
				if n.child.sending != (slot{n.nextID, g}) {
					t.Errorf("%s sends in %v", n.name, n.child.sending)
				}
			}
			a, b := last[InstallIV](t, w.a), last[InstallIV](t, w.b)
			if a.SendIndex != b.ReceiveIndex || a.ReceiveIndex != b.SendIndex || a.SendIndex == 0 {
				t.Errorf("indexes %+v and %+v", a, b)
			}
			w.traffic()
		}
	})
}

func TestReivBeforeTheFirstEpochFails(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.a.s.Reiv()
		quiet()
		if e := last[Exchanged](t, w.a); !errors.Is(e.Err, errNoEpoch) {
			t.Errorf("%+v", e)
		}
		if len(events[Exchanged](w.b)) != 0 {
			t.Error("the peer was asked")
		}
	})
}

func TestReivAtTheLastGenerationBecomesARekey(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.first()
		w.a.s.commands.post(func() error {
			w.a.s.exchange.ivs.saw(keys.MaxGeneration - 2)
			return nil
		})
		w.a.s.Reiv()
		after(time.Second)
		if e := last[Exchanged](t, w.a); e.Err != nil || e.Generation != keys.MaxGeneration-1 {
			t.Fatalf("last generation: %+v", e)
		}
		w.traffic()
		w.a.s.Reiv()
		after(time.Second)
		if e := last[Exchanged](t, w.a); e.Err != nil || e.Kind != KindRekey || e.Epoch != 2 {
			t.Fatalf("after it: %+v", e)
		}
		w.a.s.Reiv()
		after(time.Second)
		if e := last[Exchanged](t, w.a); e.Err != nil || e.Generation != 1 {
			t.Fatalf("in the new epoch: %+v", e)
		}
	})
}

func TestPresharedKeysThatDifferAreToldToBothEnds(t *testing.T) {
	one, two := keys.Secret{1}, keys.Secret{2}
	for name, c := range map[string]struct{ a, b *keys.Secret }{
		"only the initiator": {&one, nil},
		"only the responder": {nil, &one},
		"different":          {&one, &two},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
				w.opened(ctx)
				w.first()
				w.a.psk, w.b.psk = c.a, c.b
				w.a.s.Rekey()
				after(time.Second)
				for _, n := range []*node{w.a, w.b} {
					e := last[Exchanged](t, n)
					if e.Reason != AbortPSK || !strings.Contains(fmt.Sprint(e.Err), "pre-shared keys differ") {
						t.Errorf("%s: %+v", n.name, e)
					}
					if n.isOver() || n.child.sending.kid != 1 {
						t.Errorf("%s did not keep session and key", n.name)
					}
				}
				if len(w.b.child.receive) != 1 {
					t.Error("the responder keeps a key that cannot be used")
				}
				// Once they are the same it works, in the same session.
				w.a.psk, w.b.psk = &two, &two
				w.b.s.Rekey()
				after(time.Second)
				for _, n := range []*node{w.a, w.b} {
					if e := last[Exchanged](t, n); e.Err != nil || e.Epoch != 3 {
						t.Errorf("%s: %+v", n.name, e)
					}
				}
			})
		})
	}
}

func TestPresharedKeyIsAskedAtEachRekey(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		one := keys.Secret{1}
		w.a.psk, w.b.psk = &one, &one
		w.opened(ctx)
		w.first()
		w.a.psk, w.b.psk = nil, nil
		w.a.s.Rekey()
		after(time.Second)
		if e := last[Exchanged](t, w.b); e.Err != nil || e.Epoch != 2 {
			t.Errorf("%+v", e)
		}
	})
}

func TestInstallThatFailsAbortsAtBothEnds(t *testing.T) {
	for _, kind := range []Kind{KindRekey, KindReiv} {
		for _, atInitiator := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, at the initiator %t", kind, atInitiator), func(t *testing.T) {
				inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
					w.opened(ctx)
					w.first()
					failing := w.b
					if atInitiator {
						failing = w.a
					}
					failing.installError = errors.New("child is gone")
					start := func() {
						if kind == KindRekey {
							w.a.s.Rekey()
						} else {
							w.a.s.Reiv()
						}
						after(time.Second)
					}
					start()
					for _, n := range []*node{w.a, w.b} {
						if e := last[Exchanged](t, n); e.Reason != AbortInstall || e.KeyID != 0 {
							t.Errorf("%s: %+v", n.name, e)
						}
						if len(n.child.receive) != 1 {
							t.Errorf("%s holds %d keys", n.name, len(n.child.receive))
						}
					}
					// The chain is as it was: the next one works.
					failing.installError = nil
					start()
					for _, n := range []*node{w.a, w.b} {
						if e := last[Exchanged](t, n); e.Err != nil {
							t.Errorf("%s: next: %v", n.name, e.Err)
						}
					}
				})
			})
		}
	}
}

func TestConfirmedBeforeDoneKeepsTheExchangeOpenUntilDone(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		l := w.opened(ctx)
		w.first()
		l.onFrame = func(fromA bool, m Message) bool {
			if fromA && m.Type() == TypeRekeyDone {
				time.Sleep(5 * time.Second)
			}
			return true
		}
		w.a.s.Rekey()
		after(time.Second)
		w.traffic()
		quiet()
		if w.b.child.sending.kid != 2 {
			t.Error("the first packet did not switch the responder")
		}
		if n := len(events[Exchanged](w.b)); n != 1 {
			t.Errorf("the responder reported %d ends before DONE", n)
		}
		w.b.s.Rekey() // must wait for DONE
		after(6 * time.Second)
		for _, n := range []*node{w.a, w.b} {
			if e := last[Exchanged](t, n); e.Err != nil || e.Epoch != 3 {
				t.Errorf("%s: %+v", n.name, e)
			}
		}
	})
}

func TestStandstillOfTheInitiatorAbortsAndKeepsTheSession(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.first()
		w.b.installDelay = 12 * time.Second
		w.a.s.Rekey()
		after(11 * time.Second)
		for _, n := range []*node{w.a, w.b} {
			if e := last[Exchanged](t, n); e.Reason != AbortTimeout || n.isOver() {
				t.Errorf("%s: %+v", n.name, e)
			}
		}
		if len(events[Drop](w.b)) != 1 {
			t.Error("the responder did not drop what nobody can use")
		}
		after(5 * time.Second) // the late word of the child changes nothing
		w.mu.Lock()
		w.b.child.drop(slot{2, 0})
		w.mu.Unlock()
		w.b.installDelay = 0
		w.a.s.Rekey()
		after(time.Second)
		if e := last[Exchanged](t, w.b); e.Err != nil || e.Epoch != 3 {
			t.Errorf("%+v", e)
		}
	})
}

func TestResponderThatHasRepliedNeverDropsItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		l := w.opened(ctx)
		w.first()
		l.onFrame = func(_ bool, m Message) bool { return m.Type() != TypeRekeyDone }
		w.a.s.Rekey()
		after(11 * time.Second)
		var end *CloseError
		if !w.b.isOver() || !errors.As(w.b.err, &end) || end.Code != CloseTimeout {
			t.Fatalf("the responder ended with %v", w.b.err)
		}
		if len(events[Drop](w.b)) != 0 {
			t.Error("the responder dropped a key that the peer sends with")
		}
		if e := last[Exchanged](t, w.b); e.Err == nil {
			t.Error("the responder reported success")
		}
		w.traffic()
		if w.b.child.sending.kid != 2 || w.a.child.sending.kid != 2 {
			t.Error("the new key is not in use")
		}
	})
}

func TestInitiatorWhoseChildHangsEndsTheSessionAndDropsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.first()
		w.a.installDelay = 20 * time.Second
		w.a.s.Rekey()
		after(15 * time.Second)
		if !w.a.isOver() || !w.b.isOver() {
			t.Fatal("the session goes on")
		}
		if len(events[Drop](w.a))+len(events[Drop](w.b)) != 0 {
			t.Error("a key was dropped")
		}
		after(10 * time.Second)
		w.traffic()
	})
}

func TestCrossingExchangesEndAsOne(t *testing.T) {
	const latency = 10 * time.Millisecond
	type start struct {
		name string
		a, b Kind
	}
	starts := []start{
		{"rekey and rekey", KindRekey, KindRekey},
		{"rekey and reiv", KindRekey, KindReiv},
		{"reiv and rekey", KindReiv, KindRekey},
		{"reiv and reiv", KindReiv, KindReiv},
	}
	smaller, larger := twoIdentities()
	for _, swapped := range []bool{false, true} {
		for _, c := range starts {
			for offset := -60 * time.Millisecond; offset <= 60*time.Millisecond; offset += 5 * time.Millisecond {
				t.Run(fmt.Sprintf("%s, swapped %t, %s", c.name, swapped, offset), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, smaller, larger)
						if swapped {
							w = newWorld(t, larger, smaller)
						}
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						l := w.opened(ctx)
						w.first()
						l.latency = latency
						w.a.installDelay, w.b.installDelay = 7*time.Millisecond, 3*time.Millisecond
						w.a.begins(c.a, max(0, offset))
						w.b.begins(c.b, max(0, -offset))
						after(time.Second)
						w.sameEpoch(c.a, c.b)
						w.traffic()
						cancel()
						after(time.Minute)
					})
				})
			}
		}
	}
}

// begins starts an exchange after a while.
func (n *node) begins(k Kind, wait time.Duration) {
	s := n.s
	go func() {
		time.Sleep(wait)
		if k == KindRekey {
			s.Rekey()
		} else {
			s.Reiv()
		}
	}()
}

// sameEpoch checks that both ends have come to the same and that no exchange failed.
func (w *world) sameEpoch(kinds ...Kind) {
	w.t.Helper()
	for _, n := range []*node{w.a, w.b} {
		if n.isOver() {
			w.t.Fatalf("%s: session ended: %v", n.name, n.err)
		}
		for _, e := range events[Exchanged](n) {
			if e.Err != nil {
				w.t.Errorf("%s: %+v", n.name, e)
			}
		}
	}
	ea, eb := last[Exchanged](w.t, w.a), last[Exchanged](w.t, w.b)
	if ea.Kind != eb.Kind || ea.Epoch != eb.Epoch || ea.Generation != eb.Generation || ea.Initiator == eb.Initiator {
		w.t.Errorf("the ends differ: %+v and %+v", ea, eb)
	}
	for _, n := range []*node{w.a, w.b} {
		to := w.other(n)
		if at, ok := to.child.open(n.child.send); !ok || at != to.child.sending {
			w.t.Errorf("%s does not send with the key of %s", n.name, to.name)
		}
	}
	for _, k := range kinds {
		if k == KindRekey && ea.Epoch < 2 {
			w.t.Errorf("no new epoch: %+v", ea)
		}
	}
}

// TestSessionMayDieBetweenAnyTwoSteps counts every message carried and every event taken as
// a step, cuts the link before each, and lets a new session follow.
func TestSessionMayDieBetweenAnyTwoSteps(t *testing.T) {
	type start struct {
		name string
		a, b Kind // 0: none
	}
	for _, c := range []start{
		{"rekey by the dialler", KindRekey, 0},
		{"rekey by the listener", 0, KindRekey},
		{"reiv by the dialler", KindReiv, 0},
		{"reiv by the listener", 0, KindReiv},
		{"crossing rekeys", KindRekey, KindRekey},
		{"crossing kinds", KindReiv, KindRekey},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, d := range []death{cutBoth, muteA, muteB} {
				for _, packets := range []bool{false, true} {
					step := 1
					for dieBefore(t, d, step, packets, c.a, c.b) {
						step++
					}
					if step < 10 {
						t.Errorf("only %d steps", step)
					}
				}
			}
		})
	}
}

// death is how a session dies.
type death int

const (
	cutBoth death = iota
	muteA         // what a sends is lost from then on; b finds out by silence or time-out
	muteB
)

// dieBefore says whether there was such a step.
func dieBefore(t *testing.T, d death, step int, packets bool, a, b Kind) (died bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		smaller, larger := twoIdentities()
		w := newWorld(t, smaller, larger)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := w.opened(ctx)
		w.first()
		w.a.installDelay, w.b.installDelay = time.Millisecond, time.Millisecond

		count := 0
		pass := func(fromA bool) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			count++
			if count == step {
				died = true
				if d == cutBoth {
					l.cut()
				}
			}
			return !died || d == muteA && !fromA || d == muteB && fromA
		}
		w.a.onStep, w.b.onStep = func() { pass(false) }, func() { pass(false) }
		l.mu.Lock()
		l.onFrame = func(fromA bool, _ Message) bool { return pass(fromA) }
		l.mu.Unlock()
		for n, k := range map[*node]Kind{w.a: a, w.b: b} {
			if k != 0 {
				n.begins(k, 0)
			}
		}
		for range 40 { // within 4 s: before the first PING
			after(100 * time.Millisecond)
			if packets {
				w.traffic()
			}
		}
		if !died {
			w.sameEpoch()
			return
		}
		if d != cutBoth {
			after(30 * time.Second)
		}
		if !w.a.isOver() || !w.b.isOver() {
			t.Fatalf("step %d: a session goes on", step)
		}
		for _, n := range []*node{w.a, w.b} {
			if len(events[Closed](n)) != 1 {
				t.Errorf("step %d: %s: %v", step, n.name, kinds(n))
			}
		}
		w.traffic() // what is pending is confirmed by packets alone

		w.a.onStep, w.b.onStep = nil, nil
		w.opened(ctx)
		w.first()
		w.sameEpoch()
		cancel()
		after(time.Minute)
	})
	return died
}

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
		after(11 * time.Second) // the initiator gives up
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
		p.conn.Close()
		quiet()
		if !w.a.isOver() {
			t.Fatal("still running")
		}
		after(2 * time.Minute)
		// Released and rested: only then does a second release change nothing, and the
		// allocator have room for it again. The allocator shows it by its count alone.
		if n := w.a.indexes; n == nil || m.Index == 0 {
			t.Fatal("no index")
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
