package supervisor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/supervisor"
)

// handOver calls HandOver and wants Run to have ended with it, without another event.
func (r *rig) handOver(ctx context.Context) (supervisor.State, error) {
	r.t.Helper()
	state, err := r.s.HandOver(ctx)
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
		r.ended = nil
	case e := <-r.events:
		r.t.Errorf("event %#v", e)
	case <-time.After(patience):
		r.t.Fatal("Run did not end")
	}
	return state, err
}

func resume(state *supervisor.State) tune {
	return func(o *supervisor.Options, _ *supervisor.Supervisor) {
		if o != nil {
			o.Resume = state
		}
	}
}

func TestHandOverEndsTheChildAndReturnsWhatItKnew(t *testing.T) {
	r := supervise(t, "good", patient())
	pid := r.started().PID
	state, err := r.handOver(t.Context())
	if err != nil || !reflect.DeepEqual(state, sampleState()) {
		t.Errorf("%+v, %v", state.End, err)
	}
	if alive(pid) {
		t.Error("the child lives on")
	}
	if err := r.s.Send(1, pipe.SendProbe{}); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("Send: %v", err)
	}
	if _, err := r.s.HandOver(t.Context()); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("HandOver once more: %v", err)
	}
}

func TestWhatAChildDoesNotHandOverInOrderIsNotExported(t *testing.T) {
	const grace = time.Second
	for _, name := range wrongHandOvers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := supervise(t, name, limits(patience, patience, grace))
			pid := r.started().PID
			began := time.Now()
			state, err := r.handOver(t.Context())
			if err == nil || len(state.Keys) != 0 {
				t.Errorf("%d keys, %v", len(state.Keys), err)
			}
			if took := time.Since(began); (name == "hangs" || name == "lingers") && took < grace || took > patience {
				t.Errorf("took %s: %v", took, err)
			}
			if alive(pid) {
				t.Error("the child lives on")
			}
		})
	}
}

func TestAChildThatHangsIsKilledWhenNoTimeIsLeft(t *testing.T) {
	r := supervise(t, "hangs", limits(patience, patience, time.Minute))
	pid := r.started().PID
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.handOver(ctx); err == nil || !strings.Contains(err.Error(), "no time left") {
		t.Error(err)
	}
	if alive(pid) {
		t.Error("the child lives on")
	}
}

func TestTheLimitIsFiveSeconds(t *testing.T) {
	t.Parallel()
	r := supervise(t, "hangs")
	r.started()
	if _, err := r.handOver(t.Context()); err == nil || !strings.Contains(err.Error(), "did not hand over within 5s") {
		t.Errorf("handed over: %v", err)
	}
}

func TestTheFirstChildGoesOnFromAState(t *testing.T) {
	told := sampleState()
	r := supervise(t, "good", resume(&told), patient())
	e := r.started()
	if s := e.Body.(supervisor.Started); !s.Resumed || s.Refused != nil {
		t.Errorf("%+v", s)
	}
	state, err := r.handOver(t.Context()) // it hands over what it was told, and that alone
	if err != nil || !reflect.DeepEqual(state.Keys, sampleState().Keys) {
		t.Errorf("%d keys, %v", len(state.Keys), err)
	}
	wantWiped(t, told)
}

func wantWiped(t *testing.T, s supervisor.State) {
	t.Helper()
	for _, k := range s.Keys {
		if k.Send != (keys.DataKey{}) || k.Receive != (keys.DataKey{}) {
			t.Errorf("key %d is left", k.KeyID)
		}
	}
}

func TestAStateThatIsRefusedIsSaidAndTheChildGoesOn(t *testing.T) {
	told := sampleState()
	r := supervise(t, "refuses", resume(&told))
	e := r.started()
	if s := e.Body.(supervisor.Started); s.Resumed || s.Refused == nil || s.Refused.Error() != "no clock" {
		t.Errorf("%+v", s)
	}
	if err := r.s.Send(1, pipe.SendProbe{ID: 9}); err != nil {
		t.Fatal(err)
	}
	if m := r.received(); m != (pipe.ProbeResult{ID: 9, OK: true}) {
		t.Errorf("received %#v", m)
	}
	r.stop()
	wantWiped(t, told)
}

func TestASecondChildNeverGetsTheState(t *testing.T) {
	for _, name := range []string{"good", "key", "resume", "misresume"} {
		t.Run(name, func(t *testing.T) {
			told := sampleState()
			r := supervise(t, name, resume(&told))
			if name == "good" {
				kill(t, r.started().PID)
			}
			r.exited()
			wantWiped(t, told)
			if s := r.started().Body.(supervisor.Started); s.Resumed || s.Refused != nil {
				t.Errorf("%+v", s)
			}
			r.stop()
		})
	}
}

func TestHandOverWaitsForAChildThatStarts(t *testing.T) {
	state := sampleState()
	for range 3 {
		told := state
		r := supervise(t, "good", resume(&told), patient())
		r.begun()
		var err error
		if state, err = r.handOver(t.Context()); err != nil || !reflect.DeepEqual(state.Keys, sampleState().Keys) {
			t.Fatalf("%d keys, %v", len(state.Keys), err)
		}
	}
}

// begun waits until Run was called.
func (r *rig) begun() {
	for !r.s.Begun() {
		time.Sleep(time.Millisecond)
	}
}

// Whoever starts Run in a goroutine does not know when it begins.
func TestHandOverBeforeRunReturnsWhatWasToBeResumed(t *testing.T) {
	told := sampleState()
	s := supervisor.New(supervisor.Options{Resume: &told, Command: func(string) *exec.Cmd {
		t.Error("a child is started")
		return exec.Command("false")
	}})
	state, err := s.HandOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err != nil {
		t.Errorf("Run: %v", err)
	}
	if !reflect.DeepEqual(state, sampleState()) {
		t.Errorf("%d keys, of which some may be wiped", len(state.Keys))
	}
	if _, err := s.HandOver(t.Context()); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("HandOver once more: %v", err)
	}
}

func TestHandOverDoesNotWaitForLong(t *testing.T) {
	r := supervise(t, "mute", limits(time.Minute, time.Minute, 300*time.Millisecond))
	r.begun()
	if _, err := r.handOver(t.Context()); err == nil || !strings.Contains(err.Error(), "did not hand over") {
		t.Error(err)
	}
}

func TestHandOverWithoutAChild(t *testing.T) {
	null := supervisor.New(supervisor.Options{})
	if _, err := null.HandOver(t.Context()); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("before Run: %v", err)
	}
	if err := handOverInBackOff(t); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("in back-off: %v", err)
	}
	r := supervise(t, "good")
	r.started()
	r.stop()
	if _, err := r.s.HandOver(t.Context()); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("after Run: %v", err)
	}
}

// handOverInBackOff returns the error of HandOver between two children. On a busy machine
// the next one may be there before it is called: then it is tried anew.
func handOverInBackOff(t *testing.T) (err error) {
	t.Helper()
	for first := time.Now(); time.Since(first) < time.Minute; {
		r := supervise(t, "crash")
		for range 4 {
			r.crashed()
		}
		began := time.Now()
		x := r.crashed() // the next start is 0.8 s away
		_, err = r.handOver(t.Context())
		if time.Since(began) < x.RestartIn {
			return err
		}
	}
	t.Fatal("too slow each time")
	return nil
}

func TestHandOverDoesNotWaitForItsCallerToTakeEvents(t *testing.T) {
	r := supervise(t, "good", heartbeat(10*time.Millisecond), patient())
	r.started()
	time.Sleep(100 * time.Millisecond) // an event waits by now
	if state, err := r.handOver(t.Context()); err != nil || len(state.Keys) != 2 {
		t.Errorf("%d keys, %v", len(state.Keys), err)
	}
}

func TestAStopDuringTheHandOverExportsNothing(t *testing.T) {
	r := supervise(t, "lingers", limits(patience, patience, 500*time.Millisecond))
	pid := r.started().PID
	time.AfterFunc(100*time.Millisecond, r.cancel)
	if state, err := r.handOver(t.Context()); err == nil || len(state.Keys) != 0 {
		t.Errorf("%d keys, %v", len(state.Keys), err)
	}
	if alive(pid) {
		t.Error("the child lives on")
	}
}

func TestAKeyThatNobodyAskedForIsTheEnd(t *testing.T) {
	r := supervise(t, "offers")
	r.started()
	if err := r.s.Send(1, pipe.SendProbe{}); err != nil {
		t.Fatal(err)
	}
	if x := r.exited(); !errors.Is(x.Err, pipe.ErrDirection) {
		t.Errorf("exited with %v", x.Err)
	}
}

func TestAStateSurvivesItsEncoding(t *testing.T) {
	state := sampleState()
	p, err := state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := supervisor.DecodeState(p)
	if err != nil || !reflect.DeepEqual(again, state) {
		t.Errorf("%v", err)
	}
	clear(p)
	if !reflect.DeepEqual(again, state) {
		t.Error("the state has kept a part of its bytes")
	}
	if _, err := supervisor.DecodeState(bytes.Repeat([]byte{1}, 100)); err == nil {
		t.Error("decoded")
	}
	again.Wipe()
	wantWiped(t, again)
}

func TestAStateIsNeverPrinted(t *testing.T) {
	s := sampleState()
	for _, v := range []any{s, &s, []supervisor.State{s}, supervisor.Options{Resume: &s}, struct{ s *supervisor.State }{&s}, struct{ S supervisor.State }{s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%s", "%q", "%d", "%t"} {
			text := fmt.Sprintf(verb, v)
			for _, bytes := range []string{"17 17 17", "111111", "11 11 11", "0x11, 0x11", "!!!", `\x11\x11`, "\x11\x11"} {
				if strings.Contains(text, bytes) {
					t.Errorf("%s of %T: %.200s", verb, v, text)
				}
			}
		}
	}
}
