package ctl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// lockedBuffer is a log that the test reads while the server writes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// running is a server under test.
type running struct {
	path string
	log  *lockedBuffer
	stop func() error // ends Run and returns what it did; idempotent
}

// serve runs a server on a socket of its own until the test ends.
func serve(t *testing.T, b Backend) *running {
	t.Helper()
	return serveAt(t, filepath.Join(t.TempDir(), "tund.sock"), b, patient())
}

// soon is a patience that a test can wait for. It is for what the test wants to end by it, and
// for nothing else: a busy machine may keep a caller from its next step for longer.
const soon = 300 * time.Millisecond

// patient is how long a server waits for callers who go on.
func patient() patience {
	const long = 20 * time.Second
	return patience{header: long, body: long, write: long, idle: long, end: time.Second}
}

func serveAt(t *testing.T, path string, b Backend, p patience) *running {
	t.Helper()
	return serveOptions(t, Options{Path: path, Backend: b}, p)
}

func serveOptions(t *testing.T, o Options, p patience) *running {
	t.Helper()
	log := new(lockedBuffer)
	o.Log, o.Version, o.Group, o.AdminGroup = slog.New(slog.NewTextHandler(log, nil)), "1.2.3", readers, admins
	server, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	server.patience = p
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &running{path: o.Path, log: log, stop: stop}
}

// raw sends bytes as they are and returns the status and the body of the reply.
func raw(t *testing.T, path, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, conn)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("reply to %.60q: %v", request, err)
	}
	defer closed(t, response.Body)
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func request(method, target, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: tund\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
}

func TestEveryBackendMethodHasARouteAndEveryRouteAnAccess(t *testing.T) {
	called := make(map[string]bool)
	for _, r := range routes() {
		if r.access != Read && r.access != Write {
			t.Errorf("%s %s: access %s", r.method, r.path, r.access)
		}
		if (r.access == Read) != (r.method == http.MethodGet) {
			t.Errorf("%s %s: access %s does not fit the method", r.method, r.path, r.access)
		}
		called[r.call] = true
	}
	delete(called, "") // version
	backend := reflect.TypeFor[Backend]()
	for method := range backend.Methods() {
		name := method.Name
		if !called[name] {
			t.Errorf("no route calls %s", name)
		}
		delete(called, name)
	}
	for name := range called {
		t.Errorf("a route calls %s, which Backend has not", name)
	}
}

func TestEveryRouteCallsItsMethodOfTheBackend(t *testing.T) {
	for _, r := range routes() {
		if r.call == "" {
			continue
		}
		b := new(fakeBackend)
		s := serve(t, b)
		content := ""
		if r.call == "StopKind" {
			content = `{"kind":"stop"}`
		}
		status, body := raw(t, s.path, request(r.method, strings.ReplaceAll(r.path, "{name}", "beta"), content))
		calls := b.seen()
		if status != http.StatusOK || len(calls) == 0 || calls[0].Method != r.call {
			t.Errorf("%s %s: status %d, calls %v, body %s", r.method, r.path, status, calls, body)
		}
	}
}

func TestRepliesAreTheObjectsOnFile(t *testing.T) {
	s := serve(t, new(fakeBackend))
	for name, text := range map[string]string{
		"version":      request("GET", "/v1/version", ""),
		"status":       request("GET", "/v1/status?timeout=5s", ""),
		"rotate-key":   request("POST", "/v1/peers/beta/rotate-key", ""),
		"rotate-iv":    request("POST", "/v1/rotate-iv", `{"peers":["alpha","beta"]}`),
		"up":           request("POST", "/v1/peers/beta/up", "{}"),
		"down":         request("POST", "/v1/peers/beta/down", `{"both":true}`),
		"shutdown":     request("POST", "/v1/peers/beta/shutdown", ""),
		"reload":       request("POST", "/v1/reload", ""),
		"restart":      request("POST", "/v1/restart", ""),
		"stop-kind":    request("POST", "/v1/stop-kind", `{"kind":"restart"}`),
		"unknown-peer": request("POST", "/v1/peers/bta/up", ""),
		"state":        request("POST", "/v1/peers/alpha/up", ""),
	} {
		t.Run(name, func(t *testing.T) {
			status, body := raw(t, s.path, text)
			golden(t, name+".json", fmt.Sprintf("%d %s", status, body))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRequestsThatAreWrongAreRefusedWithACode(t *testing.T) {
	b := new(fakeBackend)
	s := serve(t, b)
	for _, test := range []struct {
		name, request string
		status        int
		code          Code
	}{
		{"unknown path", request("GET", "/v2/status", ""), 404, CodeNotFound},
		{"the root", request("GET", "/", ""), 404, CodeNotFound},
		{"a peer without a verb", request("POST", "/v1/peers/beta", ""), 404, CodeNotFound},
		{"unknown verb", request("POST", "/v1/peers/beta/restart", ""), 404, CodeNotFound},
		{"GET where POST is meant", request("GET", "/v1/reload", ""), 405, CodeMethod},
		{"POST where GET is meant", request("POST", "/v1/status", ""), 405, CodeMethod},
		{"DELETE", request("DELETE", "/v1/peers/beta/up", ""), 405, CodeMethod},
		{"unknown field", request("POST", "/v1/peers/beta/down", `{"bth":true}`), 400, CodeBadRequest},
		{"field in other case", request("POST", "/v1/peers/beta/down", `{"Both":true}`), 400, CodeBadRequest},
		{"field twice", request("POST", "/v1/peers/beta/down", `{"both":true,"both":false}`), 400, CodeBadRequest},
		{"null", request("POST", "/v1/peers/beta/down", `{"both":null}`), 400, CodeBadRequest},
		{"wrong type", request("POST", "/v1/peers/beta/down", `{"both":"yes"}`), 400, CodeBadRequest},
		{"two objects", request("POST", "/v1/peers/beta/down", `{"both":true}{}`), 400, CodeBadRequest},
		{"not an object", request("POST", "/v1/peers/beta/down", `[true]`), 400, CodeBadRequest},
		{"cut short", request("POST", "/v1/peers/beta/down", `{"both":tr`), 400, CodeBadRequest},
		{"body where none is taken", request("POST", "/v1/reload", `{"force":true}`), 400, CodeBadRequest},
		{"body of a GET", request("GET", "/v1/status", `{}`), 400, CodeBadRequest},
		{"too large", request("POST", "/v1/rotate-key", `{"peers":["`+strings.Repeat("a", maxBody)+`"]}`), 413, CodeTooLarge},
		{"no peers", request("POST", "/v1/rotate-key", `{"peers":[]}`), 400, CodeBadRequest},
		{"a peer twice", request("POST", "/v1/rotate-key", `{"peers":["beta","beta"]}`), 400, CodeBadRequest},
		{"unknown parameter", request("GET", "/v1/status?pretty=1", ""), 400, CodeBadRequest},
		{"time-out of what needs none", request("GET", "/v1/version?timeout=1s", ""), 400, CodeBadRequest},
		{"time-out twice", request("GET", "/v1/status?timeout=1s&timeout=2s", ""), 400, CodeBadRequest},
		{"time-out without unit", request("GET", "/v1/status?timeout=5", ""), 400, CodeBadRequest},
		{"time-out below 0", request("GET", "/v1/status?timeout=-5s", ""), 400, CodeBadRequest},
		{"query that is none", request("GET", "/v1/status?%zz", ""), 400, CodeBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := raw(t, s.path, test.request)
			var answer ErrorReply
			if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error == nil {
				t.Fatalf("status %d, body %q", status, body)
			}
			if status != test.status || answer.Error.Code != test.code || answer.Error.Message == "" {
				t.Errorf("status %d, error %+v", status, answer.Error)
			}
		})
	}
	if calls := b.seen(); len(calls) > 0 {
		t.Errorf("the backend was called: %v", calls)
	}
}

func TestACallerWhoGoesAwayCancelsTheRequest(t *testing.T) {
	b := &fakeBackend{wait: make(chan struct{})}
	s := serve(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := NewClient(s.path, 0).Up(ctx, "beta")
		failed <- err
	}()
	waitFor(t, func() bool { return len(b.seen()) == 1 })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v", err)
	}
	waitFor(t, func() bool { return strings.Contains(s.log.String(), "context canceled") })
}

func TestATimeOutIsAnsweredByTheServer(t *testing.T) {
	s := serve(t, &fakeBackend{wait: make(chan struct{})})
	_, err := NewClient(s.path, 50*time.Millisecond).Up(t.Context(), "beta")
	var answer *Error
	if !errors.As(err, &answer) || answer.Code != CodeTimeout {
		t.Errorf("got %v", err)
	}
}

func TestEndingTheServerCancelsRequestsAndWaitsForThem(t *testing.T) {
	b := &fakeBackend{wait: make(chan struct{})}
	s := serve(t, b)
	failed := make(chan error, 1)
	go func() {
		_, err := NewClient(s.path, 0).Up(context.Background(), "beta")
		failed <- err
	}()
	waitFor(t, func() bool { return len(b.seen()) == 1 })
	if err := s.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	var answer *Error
	if err := <-failed; !errors.As(err, &answer) || answer.Code != CodeStopping {
		t.Errorf("client: %v", err)
	}
	if _, err := os.Lstat(s.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := NewClient(s.path, 0).Status(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestEveryWriteIsLoggedWithItsCaller(t *testing.T) {
	s := serve(t, new(fakeBackend))
	client := NewClient(s.path, 0)
	if _, err := client.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log := s.log.String(); log != "" {
		t.Errorf("a read was logged: %s", log)
	}
	if _, err := client.RotateKey(t.Context(), []string{"beta"}); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("uid=%d pid=%d path=/v1/peers/beta/rotate-key", os.Getuid(), os.Getpid())
	if log := s.log.String(); !strings.Contains(log, want) {
		t.Errorf("log %q lacks %q", log, want)
	}
}

// closed closes what the test has opened.
func closed(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatal("it did not come to pass")
}
