package supervisor_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"tund/internal/supervisor"
)

func through(g *supervisor.Gate) tune {
	return func(o *supervisor.Options, _ *supervisor.Supervisor) {
		if o != nil {
			o.Gate = g
		}
	}
}

// quiet fails the test if anything happens to the child for a moment.
func (r *rig) quiet() {
	r.t.Helper()
	select {
	case e := <-r.events:
		r.t.Fatalf("event %#v", e)
	case <-time.After(100 * time.Millisecond):
	}
}

func TestChildWaitsUntilAnotherHasStarted(t *testing.T) {
	g := supervisor.NewGate(1)
	// This one never says hello: it keeps its place until it is given up.
	first := supervise(t, "mute", through(g), limits(patience, patience, 100*time.Millisecond))
	for !supervisor.Full(g) {
		time.Sleep(time.Millisecond)
	}
	second := supervise(t, "good", through(g))
	second.quiet()
	first.cancel()
	second.started()
	third := supervise(t, "good", through(g))
	third.started()
}

func TestChildInPlaceOfADeadOneWaitsForNobody(t *testing.T) {
	g := supervisor.NewGate(1)
	r := supervise(t, "good", through(g))
	pid := r.started().PID
	_ = supervise(t, "mute", through(g), limits(patience, patience, 100*time.Millisecond))
	for !supervisor.Full(g) {
		time.Sleep(time.Millisecond)
	}
	kill(t, pid)
	r.exited()
	r.started()
}

func TestGateLetsInFirstForWhomPacketsWait(t *testing.T) {
	g := supervisor.NewGate(1)
	order := make(chan string, 5) // all of them
	if !supervisor.Enter(g, t.Context(), nil, false) {
		t.Fatal("an open gate let nobody in")
	}
	for i, wait := range []struct {
		name   string
		urgent bool
	}{{"a", false}, {"b", false}, {"c", true}, {"d", true}} {
		go func() {
			supervisor.Enter(g, t.Context(), nil, wait.urgent)
			order <- wait.name
		}()
		for supervisor.Waiting(g) != i+1 {
			time.Sleep(time.Millisecond)
		}
	}
	got := ""
	for range 4 {
		supervisor.Leave(g)
		got += <-order
	}
	if got != "cdab" {
		t.Errorf("order is %s", got)
	}
}

func TestWhoGivesUpAtTheGateKeepsNoPlace(t *testing.T) {
	g := supervisor.NewGate(1)
	supervisor.Enter(g, t.Context(), nil, false)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { done <- supervisor.Enter(g, ctx, nil, true) }()
	for supervisor.Waiting(g) != 1 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if <-done || supervisor.Waiting(g) != 0 {
		t.Error("it was let in, or waits on")
	}
	supervisor.Leave(g)
	left := make(chan struct{})
	close(left)
	if !supervisor.Enter(g, t.Context(), left, false) {
		t.Error("the gate is shut for ever")
	}
	if supervisor.Enter(g, t.Context(), left, false) {
		t.Error("two are in")
	}
}

func TestStateThatNoChildHasSeenIsHandedOverAsItCame(t *testing.T) {
	g := supervisor.NewGate(1)
	supervisor.Enter(g, t.Context(), nil, false)
	state := sampleState()
	r := supervise(t, "good", through(g), resume(&state))
	for supervisor.Waiting(g) != 1 {
		time.Sleep(time.Millisecond)
	}
	got, err := r.handOver(t.Context())
	if err != nil || !reflect.DeepEqual(got, sampleState()) {
		t.Errorf("%+v, %v", got.End, err)
	}
	other := supervise(t, "good", through(g))
	for supervisor.Waiting(g) != 1 {
		time.Sleep(time.Millisecond)
	}
	if _, err := other.handOver(t.Context()); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("without a state: %v", err)
	}
}

func TestStateOfWhoEndsAtTheGateIsWiped(t *testing.T) {
	g := supervisor.NewGate(1)
	supervisor.Enter(g, t.Context(), nil, false)
	state := sampleState()
	r := supervise(t, "good", through(g), resume(&state))
	for supervisor.Waiting(g) != 1 {
		time.Sleep(time.Millisecond)
	}
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	r.ended = nil
	for i, k := range state.Keys {
		if k.Send.Key == sampleState().Keys[i].Send.Key {
			t.Errorf("key %d is still there", k.KeyID)
		}
	}
}
