package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ctlLimit ends a tunctl that hangs, so that the test can say so.
const ctlLimit = 2 * time.Minute

// Node is one host: a namespace, a directory, and at most one running tund.
type Node struct {
	// Name is the host's name; Dir holds its files; Namespace is its network.
	Name, Dir, Namespace string
	// Env are further variables of the environment of tund; Around is a command that
	// runs it, given the command line as its last arguments.
	Env, Around []string
	// Runtime is the folder of the control socket, below Dir.
	Runtime string

	lab     *Lab
	made    []string // devices that are no leftovers: the lab made them
	filters int      // nft tables made so far
	public  string

	store *Manager      // hands descriptors to each tund that starts; may be nil
	cmd   *exec.Cmd     // the running tund, nil if none
	ended chan struct{} // closed when cmd has ended

	tunctl func(args ...string) *exec.Cmd // runs tunctl on an adopted node, else nil
}

// Result is what a command left: its output and its exit code.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Path returns the absolute path of a file in the node's directory.
func (n *Node) Path(name string) string { return filepath.Join(n.Dir, name) }

// Config is the path of the node's configuration file.
func (n *Node) Config() string { return n.Path("tund.toml") }

// Socket is the path of the control socket of the node's tund.
func (n *Node) Socket() string { return n.Path(filepath.Join(n.Runtime, "tund.sock")) }

// WriteFile replaces a file of the node as editors do: a new file is written beside
// it and renamed over it. The mode is that of a secret, which no file minds.
func (n *Node) WriteFile(name, content string) {
	n.lab.tb.Helper()
	path := n.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".swp")
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
}

// PublicKey returns the node's public key. The first call has tunctl make its key pair.
func (n *Node) PublicKey() string {
	n.lab.tb.Helper()
	if n.public == "" {
		return n.NewIdentity()
	}
	return n.public
}

// NewIdentity has tunctl make a new key pair, in place of the one there is, and returns
// the public key.
func (n *Node) NewIdentity() string {
	n.lab.tb.Helper()
	private := n.mustCtl("", "genkey")
	n.public = strings.TrimSpace(n.mustCtl(private, "pubkey"))
	n.WriteFile("private.key", private)
	return n.public
}

// NewPresharedKey has tunctl make a pre-shared key and returns the file's content.
func (n *Node) NewPresharedKey() string {
	n.lab.tb.Helper()
	return n.mustCtl("", "genpsk")
}

// Start runs tund and returns when its control socket answers.
func (n *Node) Start() {
	n.lab.tb.Helper()
	n.Launch()
	Until(n.lab.tb, Patience, "tund on "+n.Name+" answers\n"+tail(n.Log(), 20), func() bool {
		if !n.Running() {
			n.lab.tb.Fatalf("node %s: tund ended at once: %s", n.Name, tail(n.Log(), 20))
		}
		return n.Ctl("status", "--json").Code == 0
	})
}

// Launch runs tund and returns at once.
func (n *Node) Launch() {
	n.lab.tb.Helper()
	if n.Running() {
		n.lab.tb.Fatalf("node %s: tund runs already", n.Name)
	}
	log, err := os.OpenFile(n.Path("tund.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	defer func() { _ = log.Close() }()
	around := n.Around
	if n.store != nil {
		around = slices.Concat(around, knowsPID())
	}
	line := slices.Concat(around, []string{n.lab.bin.Tund, "--config", n.Config(), "--socket", n.Socket()})
	cmd := n.Command(line[0], line[1:]...)
	cmd.Env = append(cmd.Env, n.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	if n.store != nil {
		done, err := n.store.handBack(cmd)
		if err != nil {
			n.lab.tb.Fatalf("node %s: hand back descriptors: %v", n.Name, err)
		}
		defer done()
	}
	if err := cmd.Start(); err != nil {
		n.lab.tb.Fatalf("node %s: start tund: %v", n.Name, err)
	}
	ended := make(chan struct{})
	go func() { // ends when tund does
		defer close(ended)
		_ = cmd.Wait() // the state is read from cmd.ProcessState
	}()
	n.cmd, n.ended = cmd, ended
}

// Running reports whether the node's tund was started and has not ended.
func (n *Node) Running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// PID returns the process id of the node's tund.
func (n *Node) PID() int {
	n.lab.tb.Helper()
	if n.cmd == nil {
		n.lab.tb.Fatalf("node %s: tund was not started", n.Name)
	}
	return n.cmd.Process.Pid
}

// Signal sends a signal to the node's tund.
func (n *Node) Signal(signal syscall.Signal) {
	n.lab.tb.Helper()
	if err := syscall.Kill(n.PID(), signal); err != nil {
		n.lab.tb.Fatalf("node %s: signal %v: %v", n.Name, signal, err)
	}
}

// Stop ends tund by SIGTERM and returns its exit code and how long it took.
func (n *Node) Stop() (code int, took time.Duration) {
	n.lab.tb.Helper()
	n.Signal(syscall.SIGTERM)
	return n.Wait(Patience)
}

// Kill ends tund by SIGKILL and returns when it is gone.
func (n *Node) Kill() {
	n.lab.tb.Helper()
	n.Signal(syscall.SIGKILL)
	n.Wait(Patience)
}

// KillIfRunning is Kill for a tund that may be about to end by itself.
func (n *Node) KillIfRunning() {
	n.lab.tb.Helper()
	_ = syscall.Kill(n.PID(), syscall.SIGKILL) // it may be gone
	n.Wait(Patience)
}

// Wait returns the exit code of tund, -1 if a signal ended it, once it has ended.
func (n *Node) Wait(limit time.Duration) (code int, took time.Duration) {
	n.lab.tb.Helper()
	start := time.Now()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-n.ended:
	case <-timer.C:
		n.lab.tb.Fatalf("node %s: tund did not end within %v", n.Name, limit)
	}
	code = n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	return code, time.Since(start)
}

// Ctl runs tunctl against the node's tund and returns what it left.
// It may be called from any goroutine.
func (n *Node) Ctl(args ...string) Result {
	return n.CtlInput("", args...)
}

// CtlInput runs tunctl like Ctl, with the given standard input.
func (n *Node) CtlInput(stdin string, args ...string) Result {
	return n.ctl(stdin, nil, args...)
}

// CtlAs runs tunctl like Ctl, as another user who is in no group.
func (n *Node) CtlAs(uid uint32, args ...string) Result {
	return n.ctl("", &syscall.Credential{Uid: uid, Gid: uid}, args...)
}

// CtlInside runs tunctl like Ctl, but on the node's network, where that matters.
func (n *Node) CtlInside(args ...string) Result {
	cmd := n.Command(n.lab.bin.Tunctl, args...)
	return finish(cmd.Path, "", nil, cmd.Args[1:])
}

// Tund runs a verb of tund that ends by itself, such as check, and returns what it left.
func (n *Node) Tund(args ...string) Result {
	return finish(n.lab.bin.Tund, "", nil, args)
}

// ctl runs tunctl: directly, since the socket is a file, which is the same from
// everywhere, or where an adopted node has its own.
func (n *Node) ctl(stdin string, as *syscall.Credential, args ...string) Result {
	if n.tunctl != nil {
		return Finish(n.tunctl(args...), stdin, ctlLimit)
	}
	return finish(n.lab.bin.Tunctl, stdin, as, append([]string{"--socket", n.Socket()}, args...))
}

// finish runs a program to its end and returns what it left.
func finish(program, stdin string, as *syscall.Credential, args []string) Result {
	cmd := exec.Command(program, args...)
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return Finish(cmd, stdin, ctlLimit)
}

// Finish runs a command with the given standard input and returns what it left. One that
// has not ended within the limit is killed; its exit code is -1, as is that of one that
// could not be started.
func Finish(cmd *exec.Cmd, stdin string, limit time.Duration) Result {
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = Patience // for what it may have started with the same output
	if err := cmd.Start(); err != nil {
		return Result{Stderr: err.Error(), Code: -1}
	}
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		r.Code, r.Stderr = -1, err.Error()
	}
	return r
}

// mustCtl runs tunctl, which must succeed, and returns its standard output.
func (n *Node) mustCtl(stdin string, args ...string) string {
	n.lab.tb.Helper()
	r := n.CtlInput(stdin, args...)
	if r.Code != 0 {
		n.lab.tb.Fatalf("node %s: tunctl %s: exit %d: %s", n.Name, strings.Join(args, " "), r.Code, r.Stderr)
	}
	return r.Stdout
}

// Post makes a request on the control socket, whose answer must have a status.
func (n *Node) Post(ctx context.Context, path, body string, status int) {
	n.lab.tb.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.Socket())
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: ctlLimit}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://tund"+path, strings.NewReader(body))
	if err != nil {
		n.lab.tb.Fatalf("node %s: %v", n.Name, err)
	}
	answer, err := client.Do(request)
	if err != nil {
		n.lab.tb.Fatalf("node %s: POST %s: %v", n.Name, path, err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != status {
		n.lab.tb.Fatalf("node %s: POST %s: status %d, want %d", n.Name, path, answer.StatusCode, status)
	}
}

// Log returns what the node's tund has printed so far.
func (n *Node) Log() string {
	content, err := os.ReadFile(n.Path("tund.log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err.Error()
	}
	return string(content)
}

// Leftovers returns a description of every process that still runs on the node and of every
// device there that the lab did not make, once none is left or the limit is over.
func (n *Node) Leftovers(limit time.Duration) []string {
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		left := n.leftovers()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		<-ticker.C
	}
}

func (n *Node) leftovers() []string {
	var left []string
	for _, pid := range processesIn(n.Namespace) {
		left = append(left, fmt.Sprintf("process %d (%s)", pid, CommandOf(pid)))
	}
	for _, device := range n.Interfaces() {
		if !slices.Contains(n.made, device) {
			left = append(left, "device "+device)
		}
	}
	return left
}

// conclude ends the node at the end of its lab: tund must end in order, leave nothing
// behind, and must not have reported a data race or a panic.
func (n *Node) conclude() {
	tb := n.lab.tb
	if n.Running() {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(Patience)
		defer timer.Stop()
		select {
		case <-n.ended:
			if code := n.cmd.ProcessState.ExitCode(); code != 0 {
				tb.Errorf("node %s: tund ended with %d after SIGTERM", n.Name, code)
			}
		case <-timer.C:
			tb.Errorf("node %s: tund did not end within %v after SIGTERM", n.Name, Patience)
		}
	}
	if left := n.Leftovers(n.lab.last); len(left) > 0 {
		tb.Errorf("node %s: left behind: %s", n.Name, strings.Join(left, ", "))
		killAll(processesIn(n.Namespace))
	}
	for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
		if strings.Contains(n.Log(), sign) {
			tb.Errorf("node %s: the log of tund shows %q", n.Name, sign)
		}
	}
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
