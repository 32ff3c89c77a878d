package main

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"

	"tund/internal/pipe"
	"tund/internal/supervisor"
)

// lackVariable names a system call that a child of a test finds missing, as on an old kernel.
const lackVariable = "TUND_TEST_LACKS"

func lack(call string) {
	if call == "" {
		return
	}
	err := seccomp.LoadFilter(seccomp.Filter{Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{{
			Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{call},
		}},
	}})
	if err != nil {
		panic(err)
	}
}

// A child on a kernel that can't lock it in runs only if the configuration lets it, and the parent
// knows either way what there is.
func TestSandboxIsWholeOrRefusedWhereItIsRequired(t *testing.T) {
	for _, tt := range []struct {
		lacks, says string
		required    bool
		walls       pipe.Walls
	}{
		{"", "", true, pipe.AllWalls},
		{"landlock_create_ruleset", "", false, pipe.AllWalls &^ pipe.WallLandlock},
		{"seccomp", "", false, pipe.AllWalls &^ pipe.WallSeccomp},
		{"landlock_create_ruleset", "sandbox lacks landlock: the kernel has none", true, 0},
		{"seccomp", "sandbox lacks seccomp: the kernel has none", true, 0},
	} {
		t.Run(strings.TrimSpace(tt.lacks+" "+tt.says), func(t *testing.T) {
			env := []string{lackVariable + "=" + tt.lacks}
			if tt.required {
				env = append(env, pipe.SandboxVariable+"="+pipe.SandboxRequired)
			}
			walls, err := firstWords(t, env)
			if tt.says == "" {
				if err != nil || walls != tt.walls {
					t.Errorf("walls %q, %v, want %q", walls.Names(), err, tt.walls.Names())
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "node.sandbox") {
				t.Errorf("walls %q, %v, want %q", walls.Names(), err, tt.says)
			}
		})
	}
}

// firstWords starts a child and returns what confines it, or why it has ended.
func firstWords(t *testing.T, env []string) (pipe.Walls, error) {
	t.Helper()
	e := newTunnel(t)[0]
	events, ended := make(chan supervisor.Event), make(chan struct{})
	child := supervisor.New(supervisor.Options{
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Name: "test",
		Device: e.device.File(), Socket: e.socket.File(), Events: events,
		Environment: func() []string { return env },
		Configure:   func() pipe.Configure { return pipe.Configure{Mode: pipe.ModeTUN, KeyLifetime: time.Hour} },
	})
	go func() { // ends with the test
		defer close(ended)
		_ = child.Run(t.Context())
	}()
	t.Cleanup(func() { <-ended })
	for event := range events {
		switch b := event.Body.(type) {
		case supervisor.Started:
			if err := child.Send(event.Child, pipe.GetStats{Seq: 1}); err != nil {
				t.Fatal(err)
			}
		case supervisor.Exited:
			return 0, b.Err
		case supervisor.Received:
			if stats, ok := b.Message.(pipe.Stats); ok {
				return stats.Sandbox, nil
			}
		}
	}
	return 0, os.ErrClosed
}
