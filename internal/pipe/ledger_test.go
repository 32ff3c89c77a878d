package pipe

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A talk is a parent whose child says what a test likes.
type talk struct {
	t      *testing.T
	parent *Conn
	in     bytes.Buffer
}

func newTalk(t *testing.T) *talk {
	k := &talk{t: t}
	k.parent = NewConn(&k.in, io.Discard, Parent)
	k.want(Hello{Version: Version}, nil)
	return k
}

// say returns what the parent makes of a message.
func (k *talk) say(m Message) error {
	k.t.Helper()
	k.in.Reset()
	if err := NewConn(nil, &k.in, Child).Send(m); err != nil {
		k.t.Fatal(err)
	}
	_, err := k.parent.Receive()
	return err
}

func (k *talk) want(m Message, want error) {
	k.t.Helper()
	if err := k.say(m); !errors.Is(err, want) {
		k.t.Errorf("%T: %v, want %v", m, err, want)
	}
}

func (k *talk) ask(m Message) {
	k.t.Helper()
	if err := k.parent.Send(m); err != nil {
		k.t.Fatal(err)
	}
}

func TestChildAnswersEachQuestionOnce(t *testing.T) {
	sample := map[Type]Message{}
	for _, m := range catalogue() {
		sample[m.Type()] = m
	}
	free := []Type{TypeHello, TypeKeyActive, TypeRekeyDue, TypeUrgent, TypeFatal}
	questions := map[Type][]Type{
		TypeConfigured: {TypeConfigure}, TypeInstalled: {TypeInstallKey, TypeInstallIV}, TypeDisplaced: {TypeDisplace},
		TypeWiped: {TypeWipe}, TypeStats: {TypeGetStats}, TypeProbeResult: {TypeSendProbe}, TypeResumed: {TypeResume},
		TypeHandedOver: {TypeHandOver}, TypeKeyState: {TypeHandOver},
	}
	for answer := range sample {
		if !maySend(Child, answer) || slices.Contains(free, answer) {
			continue
		}
		if len(questions[answer]) == 0 {
			t.Errorf("nothing asks for type %d", answer)
		}
		newTalk(t).want(sample[answer], errUnasked)
		for _, question := range questions[answer] {
			k := newTalk(t)
			k.ask(sample[question])
			times := 1
			if answer == TypeKeyState {
				times = MaxStates
			}
			for range times {
				k.want(sample[answer], nil)
			}
			k.want(sample[answer], ErrDirection)
		}
	}
}

func TestNothingComesAfterTheLastWord(t *testing.T) {
	for _, last := range []Message{Fatal{Reason: "x"}, HandedOver{}} {
		k := newTalk(t)
		k.ask(HandOver{})
		k.ask(GetStats{})
		k.want(last, nil)
		for _, m := range []Message{last, Stats{}, KeyActive{KeyID: 1}, keyState()} {
			k.want(m, errOver)
		}
	}
}

// A child that was taken over repeats what no question limits.
func TestChildHasABudgetOfMessages(t *testing.T) {
	for _, m := range []Message{KeyActive{KeyID: 1}, RekeyDue{KeyID: 1, Reason: RekeyBytes}, Urgent{Thread: 1}} {
		synctest.Test(t, func(t *testing.T) {
			k := newTalk(t)
			admitted := func() (n int) {
				for range 30_000 {
					err := k.say(m)
					if errors.Is(err, errBudget) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					n++
				}
				return n
			}
			if n := admitted(); n != unaskedBurst {
				t.Errorf("%T: %d at once", m, n)
			}
			time.Sleep(time.Second)
			if n := admitted(); n != unaskedRate {
				t.Errorf("%T: %d in a second", m, n)
			}
		})
	}
}
