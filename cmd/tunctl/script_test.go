package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tund/internal/ctl"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tunctl": func() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/script, a file for each command. Beside tunctl they
// have:
//
//	daemon [KIND]      serves a fake tund on $WORK/tund.sock; stops the one before
//	status N COMMAND…  runs a command that must end with exit status N
//	match FILE         compares standard output with FILE, where times may differ
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TUND_SOCKET", filepath.Join(env.WorkDir, "tund.sock"))
			env.Setenv("TMPDIR", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each command otherwise
			env.Values[daemonKey{}] = new(daemon)
			env.Defer(env.Values[daemonKey{}].(*daemon).end)
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %s", name)
			}
			return os.Getuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": startDaemon,
			"status": checkStatus,
			"match":  matchOutput,
		},
	})
}

type daemonKey struct{}

// daemon is the fake tund of one script.
type daemon struct{ stop func() }

func (d *daemon) end() {
	if d.stop != nil {
		d.stop()
	}
	d.stop = nil
}

func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: daemon [KIND]")
	}
	d := ts.Value(daemonKey{}).(*daemon)
	d.end()
	backend := &fakeTund{dir: ts.Getenv("WORK")}
	if len(args) == 1 {
		backend.kind = args[0]
	}
	server, err := ctl.Listen(ctl.Options{
		Log: slog.New(slog.DiscardHandler), Path: ts.Getenv("TUND_SOCKET"), Backend: backend, Version: "1.2.3",
	})
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = server.Run(ctx) })
	d.stop = func() { cancel(); group.Wait() }
}

func checkStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = regexp.MustCompile(`exit status (\d+)|.*`).ReplaceAllString(err.Error(), "$1")
	}
	if got != args[0] {
		ts.Fatalf("exit status %q, want %s: %v", got, args[0], err)
	}
}

func matchOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: match FILE")
	}
	times := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	got := times.ReplaceAllString(ts.ReadFile("stdout"), "TIME")
	if want := ts.ReadFile(args[0]); got != want {
		ts.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}
