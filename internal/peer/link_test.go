package peer

import (
	"log/slog"
	"testing"
	"time"

	"tund/internal/config"
	"tund/internal/keys"
	"tund/internal/session"
	"tund/internal/wire"
)

// bare is a peer without a node, tunnel or goroutine, whose indexes are counted.
func bare() (p *Peer, released *[]wire.Index) {
	released = new([]wire.Index)
	p = &Peer{
		log: slog.New(slog.DiscardHandler),
		o:   Options{Now: func() time.Duration { return time.Hour }},
		cfg: config.Peer{Enabled: true, RekeyInterval: 2 * time.Minute, Keepalive: 25 * time.Second},
	}
	p.ring.release = func(i wire.Index) { *released = append(*released, i) }
	return p, released
}

// bareLink is a session that runs nowhere.
func bareLink(id *keys.Identity) *link {
	conn, _ := session.Pipe(keys.PublicKey{1}, keys.PublicKey{2})
	s := session.New(session.Options{Conn: conn, Identity: id, Allowance: session.NewAllowance()})
	return &link{s: s, conn: conn, cancel: func() {}}
}

func testIdentity() *keys.Identity { return keys.NewIdentity(&keys.Secret{3}) }

func TestAnExchangeOfAnOldSessionIsNotOneOfTheNew(t *testing.T) {
	p, _ := bare()
	old, main := bareLink(testIdentity()), bareLink(testIdentity())
	p.links.open, p.links.main = []*link{old, main}, main
	p.onSession(session.Event{Session: old.s, Body: session.InstallKey{KeyID: 1, Epoch: 4, ReceiveIndex: 7}})
	if p.links.exchange {
		t.Error("the old session's exchange, whose end is not told, keeps the new one from its own")
	}
	p.onSession(session.Event{Session: old.s, Body: session.InstallIV{KeyID: 1, Generation: 1, ReceiveIndex: 8}})
	if p.links.exchange {
		t.Error("the same for an IV")
	}
	p.onSession(session.Event{Session: main.s, Body: session.InstallKey{KeyID: 2, Epoch: 1, ReceiveIndex: 9}})
	if !p.links.exchange {
		t.Error("an exchange of the session in force is not noted")
	}
}

func TestTheIndexesOfAForgottenSessionAreGivenBack(t *testing.T) {
	p, released := bare()
	gone := bareLink(testIdentity())
	p.onSession(session.Event{Session: gone.s, Body: session.InstallKey{KeyID: 1, ReceiveIndex: 7}})
	p.onSession(session.Event{Session: gone.s, Body: session.InstallIV{KeyID: 1, Generation: 1, ReceiveIndex: 8}})
	if len(*released) != 2 || len(p.ring.slots) != 0 || len(p.child.waiting) != 0 {
		t.Errorf("released %v, ring %v", *released, p.ring.slots)
	}
}

func TestOnlyTheTwoInQuestionDecideWhichOneStays(t *testing.T) {
	for name, body := range map[string]session.EventBody{"pong": session.PongReceived{}, "request": session.Wanted{}} {
		t.Run(name, func(t *testing.T) {
			p, _ := bare()
			old, main, rival := bareLink(testIdentity()), bareLink(testIdentity()), bareLink(testIdentity())
			p.links.open, p.links.main, p.links.rival = []*link{old, main, rival}, main, rival
			p.onSession(session.Event{Session: old.s, Body: body})
			if p.links.main != main || p.links.rival != rival {
				t.Error("a session that is closing has decided between two others")
			}
			p.onSession(session.Event{Session: main.s, Body: body})
			if p.links.main != main || p.links.rival != nil {
				t.Error("the older one's sign of life has not decided")
			}
		})
	}
}

// A REKEY may have been sent before the other side, which decides, knew that there are two
// sessions: taken for its decision at once, it would cost both of them.
func TestARequestDecidesOnlyWhenNoWordFollows(t *testing.T) {
	p, _ := bare()
	main, rival := bareLink(testIdentity()), bareLink(testIdentity())
	p.links.open, p.links.main, p.links.rival, p.links.waits = []*link{main, rival}, main, rival, true
	p.onSession(session.Event{Session: main.s, Body: session.Wanted{}})
	if p.links.rival != rival {
		t.Fatal("a request has decided at once")
	}
	if _, due := p.agenda.take(p.o.Now() + wantedPause); !due {
		t.Fatal("a request never decides")
	}
	p.decide()
	if p.links.main != main || p.links.rival != nil {
		t.Error("the session that the other side uses has not been kept")
	}
}
