package ctl

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBytesThatAreNotHTTPDoNotHarmTheServer(t *testing.T) {
	s := serve(t, new(fakeBackend))
	for _, garbage := range []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "status\n", "GET\r\n\r\n",
		"GET /v1/status HTTP/9.9\r\n\r\n", "GET /v1/status HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"POST /v1/reload HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", strings.Repeat("\x00", 4096),
	} {
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, garbage) // the server may hang up in the middle
		_ = conn.(*net.UnixConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		answer, _ := io.ReadAll(conn)
		if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%.20q was answered: %s", garbage, answer)
		}
		_ = conn.Close()
	}
	if status, _ := raw(t, s.path, request("GET", "/v1/status", "")); status != http.StatusOK {
		t.Errorf("status afterwards: %d", status)
	}
}

func TestCallersWhoSayNothingDoNotKeepOthersOut(t *testing.T) {
	s := serve(t, new(fakeBackend))
	for range maxPerUser - 1 {
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer closed(t, conn)
		_, _ = io.WriteString(conn, "POST /v1/reload HTTP/1.1\r\n")
	}
	if status, _ := raw(t, s.path, request("GET", "/v1/status", "")); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

func TestCallersWhoStopInTheMiddleAreHungUpOn(t *testing.T) {
	header, body, idle := patient(), patient(), patient()
	header.header, body.body, idle.idle = soon, soon, soon
	for name, test := range map[string]struct {
		patience        patience
		request, answer string
	}{
		"nothing":             {header, "", ""},
		"a part of the head":  {header, "POST /v1/reload HT", ""},
		"a part of the body":  {body, "POST /v1/peers/beta/down HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{", "HTTP/1.1 400 "},
		"a body for nobody":   {body, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{", ""},
		"a body of a PUT":     {body, "PUT /v1/status HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{", ""},
		"a request, and then": {idle, request("GET", "/v1/version", ""), "HTTP/1.1 200 "},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveAt(t, filepath.Join(t.TempDir(), "tund.sock"), new(fakeBackend), test.patience)
			conn, err := net.Dial("unix", s.path)
			if err != nil {
				t.Fatal(err)
			}
			defer closed(t, conn)
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(conn, test.request); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn) // until the server hangs up
			if errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasPrefix(string(answer), test.answer) {
				t.Errorf("answer %q, %v", answer, err)
			}
		})
	}
}

func TestACallerWhoTakesNoReplyIsHungUpOn(t *testing.T) {
	write := patient()
	write.write = soon
	s := serveAt(t, filepath.Join(t.TempDir(), "tund.sock"), new(fakeBackend), write)
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, conn)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	ask := request("GET", "/v1/status", "")
	for err == nil { // until the replies fill the socket, and then the requests
		_, err = io.WriteString(conn, ask)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server still waits")
	}
}

func TestConnectionsOfOneUserAreLimited(t *testing.T) {
	s := serve(t, new(fakeBackend))
	fill(t, s)
	status, body := raw(t, s.path, request("GET", "/v1/status", ""))
	if status != http.StatusServiceUnavailable || body != refusal {
		t.Errorf("status %d, body %q", status, body)
	}
}

// fill takes all connections of this user until the test ends.
func fill(t *testing.T, s *running) {
	t.Helper()
	for range maxPerUser {
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closed(t, conn) })
	}
}

// Where the server hung up at once, a caller that is still to write would hear of a broken
// pipe only.
func TestWhoIsRefusedHearsWhy(t *testing.T) {
	s := serve(t, new(fakeBackend))
	fill(t, s)
	for range 200 {
		_, err := NewClient(s.path, 10*time.Second).Status(t.Context())
		var answer *Error
		if !errors.As(err, &answer) || answer.Code != CodeBusy {
			t.Fatalf("got %v", err)
		}
	}
}

// More of them than are waited for, who say nothing, are answered as well, and do not keep the
// server from its end.
func TestManyWhoAreRefusedAreAllAnswered(t *testing.T) {
	s := serve(t, new(fakeBackend))
	fill(t, s)
	var refused []net.Conn
	for range 2 * maxRefused {
		var conn net.Conn
		waitFor(t, func() bool { // a slow server has not yet accepted those before
			var err error
			conn, err = net.Dial("unix", s.path)
			return err == nil
		})
		defer closed(t, conn)
		refused = append(refused, conn)
	}
	for i, conn := range refused {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if answer, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(answer), refusal) {
			t.Errorf("caller %d: %q, %v", i, answer, err)
		}
	}
	if conn, err := net.Dial("unix", s.path); err == nil {
		defer closed(t, conn) // is waited for when the server ends
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

func TestAPlaceThatWasLeftIsGivenAgain(t *testing.T) {
	l := newLimitedListener(nil)
	for range maxPerUser {
		if !l.enter(1000) {
			t.Fatal("refused within the limit")
		}
	}
	if l.enter(1000) {
		t.Fatal("admitted above the limit")
	}
	l.leave(1000)
	if !l.enter(1000) {
		t.Error("refused though one has left")
	}
}

func TestRootIsAdmittedWhenOthersFillTheSocket(t *testing.T) {
	l := newLimitedListener(nil)
	for i := range uint32(maxConnections) {
		if !l.enter(1000 + i) {
			t.Fatal("refused within the limit")
		}
	}
	if l.enter(5000) {
		t.Error("one more user was admitted")
	}
	if !l.enter(0) {
		t.Error("root was not admitted")
	}
}
