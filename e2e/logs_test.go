package e2e

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/e2e/lab"
)

// logTo lets a shell open the standard error of a node's tund.
func logTo(n *lab.Node, redirection string) {
	n.Around = []string{"sh", "-c", `exec "$@" ` + redirection, n.Dir}
}

// logToPipe lets a node's tund write to a pipe, whose other end it returns.
func logToPipe(t *testing.T, n *lab.Node) *os.File {
	t.Helper()
	path := n.Path("stderr")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	logTo(n, `2>"$0/stderr"`)
	return reader
}

// wantWork fails the test unless the tunnel works, the next one too, and tund ends in order.
func wantWork(t *testing.T, p *lab.Pair) {
	t.Helper()
	p.Alpha.Ctl("down", "beta")
	p.Alpha.Ctl("up", "beta")
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)
	if code, _ := p.Alpha.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	within(t, "beta is told", func() bool { return strings.Contains(p.Beta.Log(), "shutdown received") })
}

func TestTunnelNeedsNoLog(t *testing.T) {
	for name, redirection := range map[string]string{"full disk": "2>/dev/full", "closed": "2>&-"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, lab.PairOptions{})
			logTo(p.Alpha, redirection)
			p.Up()
			wantWork(t, p)
		})
	}
	t.Run("reader gone", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, lab.PairOptions{})
		reader := logToPipe(t, p.Alpha)
		p.Up()
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
		wantWork(t, p)
	})
}

// Nobody reads the log. When somebody does again, it says how much is missing.
func TestTunnelDoesNotWaitForTheReaderOfItsLog(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	reader := logToPipe(t, p.Alpha)
	p.Up()
	post := poster(p.Alpha)
	for range 5000 { // each is a line
		if err := post("/v1/peers/nobody/rotate-key"); err != nil {
			t.Fatal(err)
		}
	}
	p.Alpha.Ctl("down", "beta")
	p.Alpha.Ctl("up", "beta")
	p.WaitUp()
	wantPing(t, p.Alpha, lab.BetaInner4)

	_ = reader.SetReadDeadline(time.Now().Add(lab.Patience))
	log := bufio.NewReader(reader)
	dropped := 0
	for dropped == 0 {
		line, err := log.ReadString('\n')
		if err != nil {
			t.Fatalf("it is not said what was dropped: %v", err)
		}
		if found := regexp.MustCompile(`msg="log lines dropped" count=(\d+)\n`).FindStringSubmatch(line); found != nil {
			dropped, _ = strconv.Atoi(found[1])
		}
	}
	if dropped > 5000+100 {
		t.Errorf("%d lines were dropped", dropped)
	}
	if code, _ := p.Alpha.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if rest, err := io.ReadAll(log); err != nil || !strings.Contains(string(rest), "msg=stopping") {
		t.Errorf("afterwards came %q, %v", rest, err)
	}
}

// poster posts to the control socket of a node.
func poster(n *lab.Node) func(path string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.Socket())
	}}}
	return func(path string) error {
		answer, err := client.Post("http://tund"+path, "", nil)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.Body.Close()
	}
}
