package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/ctl"
	"tund/internal/handover"
)

// executed is what a fake execve was asked for.
type executed struct {
	path   string
	record *handover.Record
	err    error
}

// execute makes the rig's execve fail with a cause, after it has looked at what the new
// program would find. used: the program takes the record before it fails.
func (r *rig) execute(cause error, used bool) *executed {
	seen := &executed{}
	r.o.Execute = func(path string, _, env []string) error {
		seen.path = path
		fd, err := recordIn(env)
		if err != nil {
			seen.err = err
			return cause
		}
		if syscall.ForkLock.TryRLock() {
			syscall.ForkLock.RUnlock()
			seen.err = errors.New("another program could be started, and inherit the record")
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			seen.err = errors.New("the record does not outlive an execve")
		}
		if used {
			boot, _ := handover.Boot()
			copied, _ := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			seen.record, seen.err = handover.Take([]*os.File{os.NewFile(uintptr(copied), "state")}, boot)
		}
		return cause
	}
	return seen
}

// recordIn finds the number of the record's descriptor in an environment.
func recordIn(env []string) (int, error) {
	i := slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "TUND_FDS=") })
	if i < 0 {
		return 0, errors.New("no TUND_FDS")
	}
	found := regexp.MustCompile(`[=,]state=(\d+)`).FindStringSubmatch(env[i])
	if found == nil {
		return 0, errors.New("no record in " + env[i])
	}
	return strconv.Atoi(found[1])
}

func TestWhereTheProgramCannotBeExecutedAllGoesOn(t *testing.T) {
	for _, used := range []bool{false, true} {
		k := newKernel()
		r := newRig(t, k, "[peer.a]\n[peer.b]\nenabled = false\n")
		r.restarts = make(chan string, 1)
		seen := r.execute(unix.ENOEXEC, used)
		r.replace(t.Context(), "/usr/sbin/tund")
		_ = r.byName("a").Config() // it has gone on when it answers
		if seen.path != "/usr/sbin/tund" || seen.err != nil || used && (len(seen.record.Peers) != 1 || seen.record.Peers[0].Name != "a") {
			t.Errorf("executed %+v", seen)
		}
		if !strings.Contains(r.restartErr, "execute /usr/sbin/tund: exec format error") {
			t.Errorf("status shows %q", r.restartErr)
		}
		if k.resumed["a"] != 1 || k.made["a"] != 1 || k.state() != "tun-a a" {
			t.Errorf("children begun anew: %v; tunnels made: %v; %s", k.resumed, k.made, k.state())
		}
		r.want(t, step{"[peer.a]\nroutes = [\"10.1.0.0/16\"]\n[peer.b]\n", ctl.ReloadApplied, "a live, b live", "tun-a a 10.1.0.0/16; tun-b b"})
	}
}

// later is a context that is done when its error was asked for some times.
type later struct {
	context.Context
	times int
}

func (l *later) Err() error {
	if l.times--; l.times < 0 {
		return context.Canceled
	}
	return nil
}

func TestSignalDuringARestartIsNotLost(t *testing.T) {
	for times, resumed := range []int{0, 1} { // it comes before, or while the children hand over
		r := newRig(t, newKernel(), "[peer.a]\n")
		seen := r.execute(unix.ENOEXEC, false)
		r.replace(&later{t.Context(), times}, "/usr/sbin/tund")
		_ = r.byName("a").Config()
		if seen.path != "" || r.k.resumed["a"] != resumed || !strings.Contains(r.restartErr, "context canceled") {
			t.Errorf("executed %q, children begun anew %v, status shows %q", seen.path, r.k.resumed, r.restartErr)
		}
	}
}

func TestAnnouncedStopIsNotForgottenByARestart(t *testing.T) {
	r := newRig(t, newKernel(), "[peer.a]\n")
	seen := r.execute(unix.ENOEXEC, false)
	r.stopKind = ctl.KindStop
	r.replace(t.Context(), "/usr/sbin/tund")
	if seen.path != "" || r.k.resumed["a"] != 0 || !strings.Contains(r.restartErr, "a stop was announced") {
		t.Errorf("executed %q, children begun anew %v, status shows %q", seen.path, r.k.resumed, r.restartErr)
	}
}

func TestEndIsAHandOverOnlyWithAStoreAndUnlessAStopWasAnnounced(t *testing.T) {
	for _, c := range []struct {
		store, socket string
		kinds         []ctl.StopKind
		want          bool
	}{
		{"4096", "/nowhere", nil, true},
		{"4096", "", nil, false},
		{"0", "/nowhere", nil, false},
		{"", "/nowhere", nil, false},
		{"4096", "/nowhere", []ctl.StopKind{ctl.KindStop}, false},
		{"4096", "/nowhere", []ctl.StopKind{ctl.KindStop, ctl.KindRestart}, true},
	} {
		t.Setenv("FDSTORE", c.store)
		t.Setenv("NOTIFY_SOCKET", c.socket)
		d := &Daemon{}
		for _, kind := range c.kinds {
			if err := (*backend)(d).StopKind(t.Context(), kind); err != nil {
				t.Fatal(err)
			}
		}
		if got := d.leaves(); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// A goodbye would take a device away that the next tund is to have.
func TestPeerThatIsTooBusyToHandOverIsLeftAsItIs(t *testing.T) {
	k := newKernel()
	r := newRig(t, k, "[peer.a]\n[peer.b]\n")
	a := r.byName("a")
	if _, err := a.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan struct{})
	k.hangOpening(stuck)
	go func() { _ = a.Up(t.Context()) }() // ends with stuck
	for !k.waiting.Load() {
		time.Sleep(time.Millisecond)
	}
	record, err := r.export()
	if err == nil || !strings.Contains(err.Error(), "peer a: hand over: ") || len(record.Peers) != 1 || record.Peers[0].Name != "b" {
		t.Errorf("exported %d peers: %v", len(record.Peers), err)
	}
	r.abandonBusy()
	if left := r.all(); len(left) != 1 || left[0].Name() != "b" {
		t.Errorf("%d peers will be told goodbye", len(left))
	}
	close(stuck)
	r.stopMembers(errStopping, a)
}

func TestProgramIsTriedBeforeItTakesThePlace(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ script, want string }{
		"good":   {"#!/bin/sh\n[ \"$1 $2\" = \"check /x/tund.toml\" ]\n", ""},
		"refuse": {"#!/bin/sh\necho 'tund: configuration refused' >&2\necho 'x.toml:1: bad' >&2\nexit 1\n", "configuration refused\nx.toml:1: bad"},
		"mute":   {"#!/bin/sh\nexit 3\n", "exit status 3"},
		"broken": {"\x7fELF nonsense", "exec format error"},
	} {
		program := filepath.Join(dir, name)
		if err := os.WriteFile(program, []byte(c.script), 0o700); err != nil {
			t.Fatal(err)
		}
		err := try(t.Context(), program, "/x/tund.toml")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := try(ctx, filepath.Join(dir, "absent"), "/x"); err == nil {
		t.Error("a program that is not there: no error")
	}
}
