package supervisor

import (
	"context"
	"errors"
	"fmt"

	"tund/internal/pipe"
)

// errHurry is why a child is killed when the context of HandOver ends.
var errHurry = errors.New("no time left to hand over")

// State is all that one child has handed over, for one other to go on from. Whoever
// holds it wipes it; it must be used once, or two children will seal with the same nonces.
type State struct {
	Keys []*pipe.KeyState
	End  pipe.HandedOver
}

// DecodeState reads what Encode wrote, and nothing else. It keeps no part of p.
func DecodeState(p []byte) (State, error) {
	states, end, err := pipe.DecodeState(p)
	return State{Keys: states, End: end}, err
}

// Encode returns the state as bytes, of version [pipe.StateVersion]. They hold keys; the
// caller wipes them.
func (s *State) Encode() ([]byte, error) { return pipe.EncodeState(s.Keys, s.End) }

// Wipe zeroes all keys. A nil State has none.
func (s *State) Wipe() {
	if s == nil {
		return
	}
	for _, k := range s.Keys {
		k.Wipe()
	}
}

// Format writes how many keys there are, for every verb.
func (s State) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "{%d keys [secret]}", len(s.Keys))
}

// HandOver ends the child, and with it Run, and returns all that the child knew. Packets
// and datagrams wait in the kernel from then on. There are no more events; what messages
// under way would have said is in the state: a slot that was heard may not have been
// announced to the owner.
//
// The child is gone when HandOver returns. One that does not answer and exit within 2 s,
// or before ctx is done, is killed and hands over nothing; nor does one that ended in any
// other way than by this. The error says why. What was to be resumed by a child that has
// not been started yet is returned as it was.
func (s *Supervisor) HandOver(ctx context.Context) (State, error) {
	begun, first := s.tellToLeave()
	switch {
	case !first:
		return State{}, fmt.Errorf("hand over: %w", ErrGone)
	case !begun:
		s.outcome = s.untouched()
	default:
		s.awaitEnd(ctx)
	}
	if s.outcome.err != nil {
		return State{}, fmt.Errorf("hand over: %w", s.outcome.err)
	}
	return s.outcome.state, nil
}

// outcome is what HandOver returns.
type outcome struct {
	state State
	err   error
}

// untouched is the outcome where no child has come to know what it was to resume.
func (s *Supervisor) untouched() outcome {
	if s.o.Resume == nil {
		return outcome{err: ErrGone}
	}
	return outcome{state: *s.o.Resume}
}

// awaitEnd waits until Run has returned.
func (s *Supervisor) awaitEnd(ctx context.Context) {
	select {
	case <-s.ended:
	case <-ctx.Done():
		close(s.hurry)
		<-s.ended
	}
}

// tellToLeave says whether there is a Run that heeds it (one that comes later does nothing),
// and whether this is the first call.
func (s *Supervisor) tellToLeave() (begun, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return s.begun, false
	}
	s.leaving = true
	close(s.leave)
	return s.begun, true
}

// begin reports false where HandOver came first.
func (s *Supervisor) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = !s.leaving
	return s.begun
}

// left says whether HandOver was called.
func (s *Supervisor) left() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

// onLeave begins the hand-over, or lets it begin when the child is ready.
func (c *child) onLeave() {
	c.watch.leave, c.watch.hurry = nil, c.s.hurry
	if c.watch.phase == ending {
		return // its end is being waited for
	}
	c.watch.timer.Reset(c.s.limits.grace)
	if c.watch.phase == running {
		c.ask()
	}
}

func (c *child) ask() {
	c.s.setCurrent(nil)
	c.watch.phase = handing
	_ = c.enqueue(pipe.HandOver{}) // if it fails, broken tells
}

// collect takes what the child hands over.
func (c *child) collect(m pipe.Message) {
	w := &c.watch
	switch m := m.(type) {
	case *pipe.KeyState:
		w.state.Keys = append(w.state.Keys, m)
		if w.complete || len(w.state.Keys) > pipe.MaxStates {
			c.kill(errors.New("handed over a key too many"))
		}
	case pipe.HandedOver:
		if w.complete || int(m.Keys) != len(w.state.Keys) {
			c.kill(fmt.Errorf("handed over %d keys and said %d", len(w.state.Keys), m.Keys))
			return
		}
		w.state.End, w.complete = m, true
	default:
		if w.complete {
			c.kill(fmt.Errorf("message of type %d after all was handed over", m.Type()))
		}
	}
}

// outcome is called after the end of run, with its error.
func (c *child) outcome(err error) outcome {
	if err == nil && !c.watch.complete {
		err = ErrGone
	}
	if err != nil {
		c.watch.state.Wipe()
		return outcome{err: err}
	}
	return outcome{state: c.watch.state}
}

// logHandOver says what went well; whoever asked for it hears of anything else.
func (c *child) logHandOver() {
	if c.s.outcome.err == nil {
		c.s.o.Log.Info("child handed over", "child", c.number, "pid", c.cmd.Process.Pid, "count", len(c.watch.state.Keys))
	}
}

// sendState gives the child what it shall go on from. The writer wipes it.
func (c *child) sendState() {
	for _, k := range c.resume.Keys {
		_ = c.enqueue(k) // there is room for all; if it fails, broken tells
	}
	_ = c.enqueue(pipe.Resume{Seq: c.number, End: c.resume.End})
}

func (c *child) onResumed(ctx context.Context, m pipe.Message) {
	resumed, ok := m.(pipe.Resumed)
	if !ok {
		return
	}
	if resumed.Seq != c.number {
		c.kill(fmt.Errorf("answered resumption %d, not %d", resumed.Seq, c.number))
		return
	}
	s := Started{Resumed: resumed.Err == ""}
	if !s.Resumed {
		s.Refused = errors.New(resumed.Err)
	}
	c.started(ctx, s)
}

// isNews says whether m is for the owner of a running child.
func isNews(m pipe.Message) bool {
	switch m.(type) {
	case *pipe.KeyState, pipe.HandedOver, pipe.Resumed, pipe.Urgent:
		return false
	}
	return true
}
