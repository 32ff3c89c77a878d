package peer

import (
	"context"
	"log/slog"

	"tund/internal/ctl"
	"tund/internal/session"
)

// facts are all that a peer's state follows from.
//
//	disabled                       enabled = false: nothing is held
//	down                           ordered down, or nothing to go on
//	resolving, connecting,
//	authenticating                 on the way to a session and its first key
//	up                             session and data both pass
//	rekeying                       up, with an exchange in flight
//	degraded                       one of the two does not pass, or the device lacks a part of its
//	                               settings; last_error says which
type facts struct {
	enabled  bool
	held     bool      // ordered down, by either side
	open     bool      // device, socket and child exist
	step     ctl.State // what a dial is doing, or waiting for one
	session  bool      // an established control session
	exchange bool      // a REKEY or REIV is in flight
	keyed    bool      // the child holds a sending key
	fresh    bool      // that key is so young that no answer can be expected yet
	data     bool      // it is confirmed, and data arrives
	lacking  bool      // the device does not have all of its settings
}

// stateOf is the one place where a state is decided.
func stateOf(f facts) ctl.State {
	switch {
	case !f.enabled:
		return ctl.StateDisabled
	case f.held || !f.open:
		return ctl.StateDown
	case f.session && f.data && f.lacking:
		return ctl.StateDegraded
	case f.session && f.data && f.exchange:
		return ctl.StateRekeying
	case f.session && f.data:
		return ctl.StateUp
	case f.session && (!f.keyed || f.fresh):
		return ctl.StateAuthenticating
	case f.session || f.keyed:
		return ctl.StateDegraded
	}
	return f.step
}

// facts gathers what the state follows from.
func (p *Peer) facts() facts {
	f := facts{
		enabled:  p.cfg.Enabled,
		held:     p.held != "",
		open:     p.tunnel != nil,
		step:     p.dial.step,
		session:  p.links.main != nil,
		exchange: p.links.exchange,
		lacking:  len(p.view.missing) > 0,
	}
	if s := p.ring.sending(); s != nil {
		f.keyed = true
		trusted := s.confirmed || p.o.Now()-s.at < freshLimit
		f.data = trusted && p.ring.confirmed() != nil && !p.silent()
		f.fresh = trusted && p.ring.confirmed() == nil
	}
	return f
}

// refresh brings everything that follows from the state up to date: the state as
// shown, the carrier of the device, and the time of the next rekey. It runs after
// each event. The carrier comes first: who reads "up" may send at once.
func (p *Peer) refresh() {
	p.installWaiting()
	p.planExchange()
	f := p.facts()
	p.setCarrier(f.keyed || p.view.carrier && p.agenda.has(taskCarrier))
	p.transition(stateOf(f), f)
}

// transition is the only writer of the state.
func (p *Peer) transition(to ctl.State, f facts) {
	from, passed := p.view.state, p.view.passes
	p.view.passes = works(to) || to == ctl.StateDegraded && f.session && f.data
	switch {
	case p.view.passes && !passed:
		p.failed("")
	case to == ctl.StateDegraded && f.session && !f.data && (passed || from != to) && p.tunnel.Remote().IsValid(): // else it is known why
		p.failed("no data arrives from " + p.tunnel.Remote().String() + " over UDP")
	}
	if from == to {
		return
	}
	p.view.state = to
	if !works(from) || !works(to) { // new keys interrupt nothing
		p.view.since = p.o.Now()
	}
	if p.view.passes {
		p.view.unreached, p.view.unkept, p.view.returned = false, false, false
	}
	p.publish(to)
	p.log.Log(context.Background(), levelOf(from, to), "state changed", "from", string(from), "to", string(to), "reason", p.view.trouble())
	p.wait.state(to)
}

// levelOf keeps from the log what every rekey brings, and every try to reach a peer:
// nothing an operator would expect to read. A tunnel that does not work as it should is a
// warning whoever has ordered it: the reason tells.
func levelOf(from, to ctl.State) slog.Level {
	switch {
	case to == ctl.StateDegraded || to == ctl.StateDown:
		return slog.LevelWarn
	case works(from) && works(to) || tries(from) && tries(to):
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func works(s ctl.State) bool { return s == ctl.StateUp || s == ctl.StateRekeying }

func tries(s ctl.State) bool {
	return s == ctl.StateResolving || s == ctl.StateConnecting || s == ctl.StateAuthenticating
}

// first is the level of what goes wrong again and again: a warning the first time since
// the peer was up. Once remembers.
func first(once *bool) slog.Level {
	if *once {
		return slog.LevelDebug
	}
	*once = true
	return slog.LevelWarn
}

// levelOfLoss is the level at which the end of a session is logged.
func (p *Peer) levelOfLoss() slog.Level {
	level := first(&p.view.unkept)
	if level == slog.LevelWarn {
		p.view.returned = false
	}
	return level
}

// levelOfReturn is the level at which a new session is logged: after a loss in the log, so
// that it says where the peer is now; not each of many that come to nothing.
func (p *Peer) levelOfReturn() slog.Level {
	if p.view.returned {
		return slog.LevelDebug
	}
	p.view.returned = p.view.unkept
	return slog.LevelInfo
}

// setCarrier shows on the device whether there is a peer behind it.
func (p *Peer) setCarrier(up bool) {
	if p.tunnel == nil || p.view.carrier == up {
		return
	}
	if err := p.tunnel.SetCarrier(up); err != nil {
		p.log.Warn("carrier not set", "iface", p.cfg.Interface, "err", err)
	}
	p.view.carrier = up
}

// failed notes what went wrong, for status.
func (p *Peer) failed(text string) { p.view.lastError = text }

// exchangeFailed notes an exchange that came to nothing, until one has succeeded.
func (p *Peer) exchangeFailed(kind session.Kind, err error) {
	v := &p.view
	v.exchanges++
	v.exchangeError = kind.String() + " failed: " + err.Error()
	p.failed(v.exchangeError)
}

// exchangeDone takes back what was noted of one that has failed.
func (p *Peer) exchangeDone() {
	if p.view.lastError == p.view.exchangeError {
		p.failed("")
	}
}
