package supervisor_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/pipe"
	"tund/internal/supervisor"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// A rig is a running Supervisor and what it has said.
type rig struct {
	t      *testing.T
	s      *supervisor.Supervisor
	events chan supervisor.Event
	cancel context.CancelFunc
	ended  chan error
}

// tune changes a Supervisor's options and limits before it runs.
type tune func(o *supervisor.Options, s *supervisor.Supervisor)

// supervise runs a Supervisor over a child that behaves as name says. The tuning functions are called
// twice: with the options, then with the Supervisor.
func supervise(t *testing.T, name string, tunes ...tune) *rig {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	r := &rig{t: t, events: make(chan supervisor.Event), ended: make(chan error, 1)}
	o := supervisor.Options{
		Log: slog.New(slog.DiscardHandler), Name: name, Device: null, Socket: null, Command: actorCommand,
		Configure: func() pipe.Configure { return pipe.Configure{Seq: 42, Mode: pipe.ModeTUN} }, Events: r.events,
	}
	for _, f := range tunes {
		f(&o, nil)
	}
	r.s = supervisor.New(o)
	r.s.SetHello(patience)
	for _, f := range tunes {
		f(nil, r.s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.ended <- r.s.Run(ctx) }() // ends with ctx
	t.Cleanup(func() {
		cancel()
		if r.ended != nil {
			if err := <-r.ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	})
	return r
}

func limits(hello, answer, grace time.Duration) tune {
	return func(_ *supervisor.Options, s *supervisor.Supervisor) {
		if s != nil {
			s.SetLimits(hello, answer, grace)
		}
	}
}

// patient is for a child that does in time what it is asked for, however slow the machine.
func patient() tune { return limits(patience, patience, patience) }

func heartbeat(d time.Duration) tune {
	return func(o *supervisor.Options, _ *supervisor.Supervisor) {
		if o != nil {
			o.Heartbeat = d
		}
	}
}

func (r *rig) next() supervisor.Event {
	r.t.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(patience):
		r.t.Fatal("no event")
		return supervisor.Event{}
	}
}

func (r *rig) started() supervisor.Event {
	r.t.Helper()
	e := r.next()
	if _, ok := e.Body.(supervisor.Started); !ok {
		r.t.Fatalf("got %#v, want Started", e.Body)
	}
	return e
}

// exited skips messages.
func (r *rig) exited() supervisor.Exited {
	r.t.Helper()
	for {
		e := r.next()
		switch body := e.Body.(type) {
		case supervisor.Exited:
			return body
		case supervisor.Started:
			r.t.Fatal("started, want Exited")
		}
	}
}

// crashed is exited for a child that ends as soon as it is configured: its exit may
// be seen before its last message, and then there is no Started.
func (r *rig) crashed() supervisor.Exited {
	r.t.Helper()
	switch body := r.next().Body.(type) {
	case supervisor.Exited:
		return body
	case supervisor.Started:
		return r.exited()
	default:
		r.t.Fatalf("got %#v, want Started or Exited", body)
		return supervisor.Exited{}
	}
}

func (r *rig) received() pipe.Message {
	r.t.Helper()
	e := r.next()
	body, ok := e.Body.(supervisor.Received)
	if !ok {
		r.t.Fatalf("got %#v, want Received", e.Body)
	}
	return body.Message
}

// stop ends Run and returns how long that took.
func (r *rig) stop() time.Duration {
	r.t.Helper()
	began := time.Now()
	r.cancel()
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		r.t.Fatal("Run did not end")
	}
	r.ended = nil
	return time.Since(began)
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestChildStartsAnswersAndStops(t *testing.T) {
	r := supervise(t, "good", patient())
	e := r.started()
	if e.Child != 1 || !alive(e.PID) {
		t.Errorf("child %d, pid %d", e.Child, e.PID)
	}
	if err := r.s.Send(1, pipe.SendProbe{ID: 9}); err != nil {
		t.Fatal(err)
	}
	if m := r.received(); m != (pipe.ProbeResult{ID: 9, OK: true}) {
		t.Errorf("received %#v", m)
	}
	if took := r.stop(); took >= patience {
		t.Errorf("stopping took %s: not by its own will", took)
	}
	if alive(e.PID) {
		t.Error("the child lives on")
	}
	if err := r.s.Send(1, pipe.SendProbe{ID: 9}); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("Send after the end: %v", err)
	}
}

func TestMessageForAnEarlierChildIsRefused(t *testing.T) {
	r := supervise(t, "good")
	if err := r.s.Send(0, pipe.SendProbe{}); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("Send to no child: %v", err)
	}
	e := r.started()
	kill(t, e.PID)
	r.exited()
	r.started()
	if err := r.s.Send(1, pipe.SendProbe{}); !errors.Is(err, supervisor.ErrGone) {
		t.Errorf("Send to the first child: %v", err)
	}
	if err := r.s.Send(2, pipe.SendProbe{}); err != nil {
		t.Errorf("Send to the second child: %v", err)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestKilledChildIsReplacedWithoutAPause(t *testing.T) {
	r := supervise(t, "good", func(o *supervisor.Options, _ *supervisor.Supervisor) {
		if o != nil && os.Geteuid() == 0 {
			o.Command = nil // through both stages
		}
	})
	pid := r.started().PID
	kill(t, pid)
	x := r.exited()
	if !strings.Contains(x.Err.Error(), "signal: killed, and not by tund") || x.RestartIn != 0 {
		t.Errorf("exited with %v, restart in %s", x.Err, x.RestartIn)
	}
	if e := r.started(); e.Child != 2 || e.PID == pid {
		t.Errorf("child %d, pid %d", e.Child, e.PID)
	}
}

func TestCrashingChildIsRestartedMoreAndMoreSlowly(t *testing.T) {
	r := supervise(t, "crash")
	least := time.Duration(0)
	for range 4 {
		x := r.crashed()
		if x.RestartIn < least || x.RestartIn > least+least/5 {
			t.Errorf("restart in %s, want %s and a little", x.RestartIn, least)
		}
		if !strings.Contains(x.Err.Error(), "exit status 7") {
			t.Errorf("exited with %v", x.Err)
		}
		least = supervisor.NextBackoff(least)
	}
}

func TestChildThatMisbehavesIsKilled(t *testing.T) {
	const short, long = 300 * time.Millisecond, time.Minute
	tests := []struct {
		name, child, want string
		started           bool
		tunes             []tune
	}{
		{"without a hello", "mute", "no hello", false, []tune{limits(short, long, short)}},
		{"with garbage for a message", "garbage", "read from child", false, nil},
		{"of another version", "old", "speaks version", false, nil},
		{"that answers another configuration", "misconfigure", "answered configuration 43, not 42", false, nil},
		{
			"that misses a heartbeat", "silent", "no answer to a heartbeat", true,
			[]tune{heartbeat(50 * time.Millisecond), limits(long, short, short)},
		},
		{"that closes its pipe", "closes", "closed its pipe", true, []tune{limits(long, long, short)}},
		{"that gives a reason itself", "fatal", "child: device is gone", false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := supervise(t, tt.child, tt.tunes...)
			if tt.started {
				r.started()
			}
			if x := r.exited(); !strings.Contains(x.Err.Error(), tt.want) {
				t.Errorf("exited with %q, want %q", x.Err, tt.want)
			}
		})
	}
}

func TestHeartbeatsAreAnsweredAndPassedOn(t *testing.T) {
	r := supervise(t, "good", heartbeat(10*time.Millisecond))
	r.started()
	for want := uint64(1); want <= 3; want++ {
		if m := r.received(); m != (pipe.Stats{Seq: 1<<63 | want}) {
			t.Errorf("received %#v", m)
		}
	}
}

func TestSlowOwnerDoesNotKillTheChild(t *testing.T) {
	t.Parallel()
	const answer = 10 * time.Second
	r := supervise(t, "good", heartbeat(10*time.Millisecond), limits(patience, answer, patience))
	r.started()
	for range 2 {
		if err := r.s.Send(1, pipe.SendProbe{ID: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(answer + answer/4) // the event is not taken meanwhile
		r.received()
		r.received()
	}
}

func TestSendToAChildThatDoesNotReadNeverBlocks(t *testing.T) {
	r := supervise(t, "deaf")
	r.started()
	m := pipe.Configure{Seq: 1, Mode: pipe.ModeTUN}
	sent := 0
	for began := time.Now(); ; sent++ {
		if err := r.s.Send(1, m); err != nil {
			if !errors.Is(err, supervisor.ErrHung) {
				t.Errorf("Send: %v", err)
			}
			break
		}
		if time.Since(began) > patience {
			t.Fatal("the queue never filled")
		}
	}
	if x := r.exited(); !errors.Is(x.Err, supervisor.ErrHung) {
		t.Errorf("exited with %v", x.Err)
	}
}

func TestStopIsAskedForThenSignalledThenForced(t *testing.T) {
	const grace = 300 * time.Millisecond
	tests := []struct {
		child  string
		grace  time.Duration
		min    time.Duration
		forced bool
	}{
		{"good", patience, 0, false},
		{"stubborn", 5 * time.Second, 5 * time.Second, false}, // SIGTERM has as long to end it
		{"immortal", grace, 2 * grace, true},
	}
	for _, tt := range tests {
		t.Run(tt.child, func(t *testing.T) {
			var log bytes.Buffer
			r := supervise(t, tt.child, limits(patience, patience, tt.grace), func(o *supervisor.Options, _ *supervisor.Supervisor) {
				if o != nil {
					o.Log = slog.New(slog.NewTextHandler(&log, nil))
				}
			})
			pid := r.started().PID
			if took := r.stop(); took < tt.min || tt.min == 0 && took >= tt.grace {
				t.Errorf("took %s", took)
			}
			if forced := strings.Contains(log.String(), "did not stop"); forced != tt.forced {
				t.Errorf("killed: %t; %s", forced, log.String())
			}
			if alive(pid) {
				t.Error("the child lives on")
			}
		})
	}
}

func TestStopDuringBackoffOrStartEndsAtOnce(t *testing.T) {
	r := supervise(t, "crash")
	for range 4 { // the next start is 0.4 s away
		r.crashed()
	}
	if took := r.stop(); took > 5*time.Second {
		t.Errorf("stopping in back-off took %s", took)
	}
	r = supervise(t, "mute", limits(time.Minute, time.Minute, 50*time.Millisecond))
	if took := r.stop(); took > patience {
		t.Errorf("stopping a starting child took %s", took)
	}
}

func TestChildThatCannotBeStartedIsAnExit(t *testing.T) {
	r := supervise(t, "good", func(o *supervisor.Options, _ *supervisor.Supervisor) {
		if o != nil {
			o.Command = func(string) *exec.Cmd { return exec.Command("/nonexistent") }
		}
	})
	if x := r.exited(); !errors.Is(x.Err, os.ErrNotExist) {
		t.Errorf("exited with %v", x.Err)
	}
}

func descriptors(t *testing.T, pid string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", pid, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

func TestNothingIsLeftOfDeadChildren(t *testing.T) {
	r := supervise(t, "good")
	e := r.started()
	before := len(descriptors(t, "self"))
	pids := []int{e.PID}
	for range 4 {
		kill(t, e.PID)
		r.exited()
		e = r.started()
		pids = append(pids, e.PID)
	}
	if after := len(descriptors(t, "self")); after != before {
		t.Errorf("%d descriptors became %d", before, after)
	}
	r.stop()
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

func TestChildInItsSandboxHasItsFourDescriptorsAndStdio(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: looks into an undumpable process")
	}
	t.Setenv("NOTIFY_SOCKET", "/run/nowhere")
	r := supervise(t, "good", heartbeat(20*time.Millisecond), func(o *supervisor.Options, _ *supervisor.Supervisor) {
		if o != nil {
			o.Command = nil
		}
	})
	pid := strconv.Itoa(r.started().PID)
	for range 10 {
		r.received() // it goes on working meanwhile
		if got := strings.Join(descriptors(t, pid), " "); got != "0 1 2 3 4 5 6" {
			t.Fatalf("descriptors are %s", got)
		}
	}
	environ, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
	if err != nil || strings.Contains(string(environ), "NOTIFY_SOCKET") {
		t.Errorf("environment is %q, %v", environ, err)
	}
}

func TestChildEndsWithItsParent(t *testing.T) {
	parent := exec.Command("/proc/self/exe")
	parent.Args = []string{"tund", parentRole, "good"}
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !alive(pid) {
		t.Fatalf("child %q, %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for end := time.Now().Add(patience); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child lives on")
		}
	}
}

// What a child writes to its standard error is logged before its end, as that of the child.
func TestStandardErrorOfAChildIsLogged(t *testing.T) {
	var log bytes.Buffer
	r := supervise(t, "writes", func(o *supervisor.Options, _ *supervisor.Supervisor) {
		if o != nil {
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
		}
	})
	r.crashed()
	r.stop()
	rest := log.String()
	for _, want := range []string{
		`level=WARN msg="child wrote" child=1 pid=`, `text="engine not used"`, `text="panic: \x1b[2J"`, `text="goroutine 1"`, `msg="child exited" child=1`,
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%s is not in, or not after the one before in\n%s", want, log.String())
		}
		rest = after
	}
}

// A child that was taken over can't keep its parent busy.
func TestChildThatFloodsIsKilled(t *testing.T) {
	r := supervise(t, "repeats", patient())
	r.started()
	if err := r.s.Send(1, pipe.SendProbe{}); err != nil {
		t.Fatal(err)
	}
	for messages := 0; ; messages++ {
		if x, ok := r.next().Body.(supervisor.Exited); ok {
			if !strings.Contains(x.Err.Error(), "more messages than a child may send") || messages > 1000 {
				t.Errorf("exited after %d messages with %v", messages, x.Err)
			}
			break
		}
	}
}
