package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"tund/internal/ctl"
)

func TestStopKindIsThatOfTheUnitsJob(t *testing.T) {
	tests := []struct {
		jobs string
		want ctl.StopKind
	}{
		{"41 tund.service stop running\n", ctl.KindStop},
		{"  41  tund.service  restart  running\n", ctl.KindRestart},
		{"41 tund.service start waiting\n", ctl.KindRestart},
		{"41 other.service stop running\n42 tund.service restart running\n", ctl.KindRestart},
		{"41 tund.service nop running\n", ""},
		{"41 tund.service.x stop running\n41 xtund.service stop running\n", ""},
		{"41 tund.service stop\n", ""},
		{"No jobs running.\n", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got, ok := stopKind(tt.jobs, "tund.service"); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q: got %q, %t; want %q", tt.jobs, got, ok, tt.want)
		}
	}
}

func TestUnitIsTheServiceThatTheCgroupBelongsTo(t *testing.T) {
	tests := []struct{ cgroup, want string }{
		{"0::/system.slice/tund.service\n", "tund.service"},
		{"0::/system.slice/system-tund.slice/tund@a.service/.control\n", "tund@a.service"},
		{"12:pids:/x\n1:name=systemd:/system.slice/other.service\n0::/system.slice/tund.service\n", "tund.service"},
		{"0::/user.slice/user-0.slice/session-1.scope\n", ""},
		{"0::/\n", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got := unitOfCgroup(tt.cgroup); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.cgroup, got, tt.want)
		}
	}
}

// fakeSystemctl puts a program in the path that prints jobs.
func fakeSystemctl(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

// listening is a tund that notes what it is told, as "METHOD PATH KIND".
func listening(t *testing.T, status int) (socket string, told <-chan string) {
	t.Helper()
	heard := make(chan string, 4)
	socket = filepath.Join(t.TempDir(), "tund.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Kind string `json:"kind"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		heard <- r.Method + " " + r.URL.Path + " " + body.Kind
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"schema":1,"error":{"code":"failed","message":"no"}}`))
	})}
	go func() { _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return socket, heard
}

func TestStopKindIsTold(t *testing.T) {
	for _, kind := range []string{"stop", "restart"} {
		fakeSystemctl(t, "echo ' 7 tund.service "+kind+" running'\n")
		socket, told := listening(t, http.StatusOK)
		if err := tellStopKind(t.Context(), "tund.service", socket); err != nil {
			t.Error(err)
		}
		if got := <-told; got != "POST /v1/stop-kind "+kind {
			t.Errorf("told %q", got)
		}
	}
}

func TestStopWithoutAJobIsNoNews(t *testing.T) {
	fakeSystemctl(t, "exit 0\n")
	socket, told := listening(t, http.StatusOK)
	if err := tellStopKind(t.Context(), "tund.service", socket); err != nil || len(told) > 0 {
		t.Errorf("got %v, told %d times", err, len(told))
	}
}

func TestStopKindSaysWhatWentWrong(t *testing.T) {
	socket, _ := listening(t, http.StatusInternalServerError)
	for _, tt := range []struct{ script, socket, want string }{
		{"exit 3\n", socket, "list jobs of systemd: exit status 3"},
		{"echo 7 tund.service stop running\n", socket, "tell tund of the stop: no"},
	} {
		fakeSystemctl(t, tt.script)
		if err := tellStopKind(t.Context(), "tund.service", tt.socket); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}
