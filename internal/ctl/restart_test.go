package ctl

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"
)

// restartingBackend goes on only when the test says so.
type restartingBackend struct {
	fakeBackend
	begun chan struct{}
}

func (b *restartingBackend) Restart(context.Context) (RestartBegun, func(), error) {
	return RestartBegun{Instance: "0a"}, func() { b.begun <- struct{}{}; <-b.begun }, nil
}

// What begins with the reply ends the process: the reply must have been sent before.
func TestReplyToRestartArrivesBeforeItBegins(t *testing.T) {
	b := &restartingBackend{begun: make(chan struct{})}
	s := serve(t, b)
	reply := make(chan RestartBegun, 1)
	go func() {
		r, err := NewClient(s.path, 20*time.Second).Restart(context.Background())
		if err != nil {
			t.Errorf("Restart: %v", err)
		}
		reply <- r
	}()
	<-b.begun
	select { // begin has been called, and does not return
	case r := <-reply:
		if r.Instance != "0a" || r.Result != "restarting" {
			t.Errorf("reply %+v", r)
		}
	case <-time.After(time.Minute):
		t.Error("no reply while the restart goes on")
	}
	b.begun <- struct{}{}
}

func TestCallerWhoIsGoneDoesNotKeepARestartFromItsBeginning(t *testing.T) {
	b := &restartingBackend{begun: make(chan struct{})}
	s := serve(t, b)
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(request("POST", "/v1/restart", ""))); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	select {
	case <-b.begun:
		b.begun <- struct{}{}
	case <-time.After(time.Minute):
		t.Error("not begun")
	}
}

func TestStopKindIsOneOfTwo(t *testing.T) {
	b := new(fakeBackend)
	s := serve(t, b)
	for _, body := range []string{"", "{}", `{"kind":""}`, `{"kind":"pause"}`, `{"kind":"STOP"}`} {
		if status, text := raw(t, s.path, request("POST", "/v1/stop-kind", body)); status != http.StatusBadRequest {
			t.Errorf("%s: status %d: %s", body, status, text)
		}
	}
	if err := NewClient(s.path, 20*time.Second).StopKind(t.Context(), KindStop); err != nil {
		t.Error(err)
	}
	if calls := b.seen(); len(calls) != 1 || calls[0].Kind != KindStop {
		t.Errorf("calls %+v", calls)
	}
}
