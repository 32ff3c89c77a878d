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

// A slot is retired 10 s after a newer one has come into use. So long the responder may have to
// wait for room, and its initiator for it.
func TestAnExchangeOutlastsTheResponsersWaitForRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.first()
		w.b.installDelay = 10*time.Second + 500*time.Millisecond
		w.a.s.Rekey()
		after(11 * time.Second)
		for _, n := range []*node{w.a, w.b} {
			if e := last[Exchanged](t, n); e.Err != nil || e.Epoch != 2 {
				t.Errorf("%s: %+v", n.name, e)
			}
		}
		w.traffic()
	})
}

func TestStandstillOfTheInitiatorAbortsAndKeepsTheSession(t *testing.T) {
	inBubble(t, func(t *testing.T, ctx context.Context, w *world) {
		w.opened(ctx)
		w.first()
		w.b.installDelay = 14 * time.Second
		w.a.s.Rekey()
		after(13 * time.Second)
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
