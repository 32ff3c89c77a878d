package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/watch"
)

const twoPeers = "[peer.a]\n[peer.b]\nroutes = [\"10.2.0.0/16\"]\n"

// slowWriter is what writes a rig's configuration in steps.
type slowWriter struct {
	*rig
	t    *testing.T
	ctx  context.Context
	now  time.Time
	file *os.File
}

func newSlowWriter(t *testing.T) *slowWriter {
	t.Helper()
	w := &slowWriter{rig: newRig(t, newKernel(), twoPeers), t: t, ctx: context.WithoutCancel(t.Context()), now: time.Now()}
	t.Cleanup(w.settled)
	return w
}

func (w *slowWriter) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// text is the content of a configuration.
func (w *slowWriter) text(peers string) string {
	w.t.Helper()
	old, err := os.ReadFile(w.o.Config)
	w.must(err)
	w.write(w.t, peers)
	text, err := os.ReadFile(w.o.Config)
	w.must(err)
	w.must(os.WriteFile(w.o.Config, old, 0o600))
	return string(text)
}

// begin truncates the file and writes the first part.
func (w *slowWriter) begin(text string) {
	w.t.Helper()
	var err error
	w.file, err = os.OpenFile(w.o.Config, os.O_WRONLY|os.O_TRUNC, 0)
	w.must(err)
	w.add(text)
}

func (w *slowWriter) add(text string) {
	w.t.Helper()
	_, err := w.file.WriteString(text)
	w.must(err)
	w.told()
}

func (w *slowWriter) end() {
	w.t.Helper()
	w.must(w.file.Close())
}

// told is what the watcher says of a change.
func (w *slowWriter) told() {
	w.onChange(w.ctx, w.now, watch.Event{Reason: watch.File, Path: w.o.Config})
}

// after lets time pass and the daemon look again if that is due.
func (w *slowWriter) after(d time.Duration) {
	w.now = w.now.Add(d)
	if w.settling.due() != nil {
		w.settle(w.ctx, w.now)
	}
}

// want compares the tunnels, and whether the daemon says that a change waits and why.
func (w *slowWriter) want(when, state, waits string) {
	w.t.Helper()
	if got := w.k.state(); got != state {
		w.t.Errorf("%s: %s, want %s", when, got, state)
	}
	said := w.nodeStatus().Config.Error
	if waits == "" && said != "" || !strings.Contains(said, waits) {
		w.t.Errorf("%s: status says %q, want %q", when, said, waits)
	}
}

const (
	both    = "tun-a a; tun-b b 10.2.0.0/16"
	onlyOne = "tun-a a"
)

// What is there of a file that somebody has open is valid and has fewer peers; it waits for as
// long as that takes.
func TestFileThatIsOpenForWritingIsNotLoaded(t *testing.T) {
	w := newSlowWriter(t)
	full := w.text(twoPeers + "[peer.c]\n")
	head, tail, _ := strings.Cut(full, "[peer.b]")
	w.begin(head)
	for range 100 {
		w.want("half written", both, "tund.toml is open for writing")
		w.after(time.Minute)
	}
	w.add("[peer.b]" + tail)
	w.want("complete, but open", both, "is open for writing")
	w.end()
	w.after(writerLook)
	w.want("closed", both+"; tun-c c", "")
}

// A writer that never ends is named in the log, once.
func TestLogSaysOnceWhatAChangeWaitsFor(t *testing.T) {
	for name, write := range map[string]func(w *slowWriter){
		"a writer that has the file open": func(w *slowWriter) { w.begin(w.text("[peer.a]\n")) },
		"a writer that has lost a peer":   func(w *slowWriter) { w.begin(w.text("[peer.a]\n")); w.end() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newSlowWriter(t)
			var log strings.Builder
			w.log = slog.New(slog.NewTextHandler(&log, nil))
			write(w)
			for range 100 {
				w.told() // it goes on
				w.after(calm / 2)
			}
			if n := strings.Count(log.String(), "level=WARN msg=\"configuration change waits\""); n != 1 {
				t.Errorf("said %d times:\n%s", n, log.String())
			}
		})
	}
}

func TestAdditionThatIsStillBeingWrittenIsNotLoadedEither(t *testing.T) {
	w := newSlowWriter(t)
	w.begin(w.text(twoPeers + "[peer.c]\n"))
	w.want("open", both, "is open for writing")
	w.end()
	w.after(writerLook)
	w.want("closed", both+"; tun-c c", "")
}

func TestKeyFileThatIsOpenForWritingHoldsTheChangeBack(t *testing.T) {
	w := newSlowWriter(t)
	before := w.node.Identity().Public()
	f, err := os.OpenFile(filepath.Join(w.dir, "private.key"), os.O_WRONLY|os.O_TRUNC, 0)
	w.must(err)
	w.told()
	w.want("empty key", both, "private.key is open for writing")
	_, err = f.WriteString("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n")
	w.must(err)
	w.must(f.Close())
	w.after(writerLook)
	w.want("closed", both, "")
	if w.node.Identity().Public() == before {
		t.Error("the new key is not in force")
	}
}

// A writer may close the file and open it again for the rest, or die; a config tool may write
// one file after the other.
func TestChangeThatLosesSomethingWaitsUntilTheFilesAreCalm(t *testing.T) {
	for name, c := range map[string]struct{ text, waits, state string }{
		"a peer":               {"[peer.a]\n", "it loses peer b", onlyOne},
		"the keys of a peer":   {"[peer.a]\n[peer.b]\n", "it loses peer.b.routes", "tun-a a; tun-b b"},
		"a peer, with another": {"[peer.a]\n[peer.c]\n", "it loses peer b", onlyOne + "; tun-c c"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSlowWriter(t)
			text := w.text(c.text)
			w.begin(text)
			w.end()
			w.after(writerLook)
			w.want("cut off", both, c.waits)
			w.after(calm - writerLook - time.Millisecond)
			w.want("not yet calm", both, c.waits)
			w.told()
			w.after(calm - time.Millisecond)
			w.want("touched again", both, c.waits)
			w.after(time.Millisecond)
			w.want("calm", c.state, "")
		})
	}
}

func TestFileThatIsCompletedLaterLosesNothing(t *testing.T) {
	w := newSlowWriter(t)
	full := w.text(twoPeers + "[peer.c]\n")
	head, tail, _ := strings.Cut(full, "[peer.b]")
	w.begin(head)
	w.end()
	w.after(writerLook)
	w.after(calm / 2)
	w.want("closed in between", both, "it loses peer b")
	var err error
	w.file, err = os.OpenFile(w.o.Config, os.O_WRONLY|os.O_APPEND, 0)
	w.must(err)
	w.after(calm) // the calm is over, but the writer is back
	w.want("open again", both, "is open for writing")
	w.add("[peer.b]" + tail)
	w.end()
	w.after(writerLook)
	w.want("complete", both+"; tun-c c", "")
	if w.k.made["b"] != 1 {
		t.Errorf("the tunnel of b was made %d times", w.k.made["b"])
	}
}

// The calm begins when the file is closed: a writer that was killed has not left it alone before.
func TestWriterThatDiesLateLosesNothingAtOnce(t *testing.T) {
	w := newSlowWriter(t)
	w.begin(w.text("[peer.a]\n"))
	for range 10 {
		w.after(calm)
	}
	w.end()
	w.after(writerLook)
	w.want("killed", both, "it loses peer b")
	w.after(calm - writerLook)
	w.want("calm", onlyOne, "")
}

func TestPeerThatMovesToAnotherFileIsNotRemovedOnTheWay(t *testing.T) {
	w := newSlowWriter(t)
	full := w.text(twoPeers)
	head, tail, _ := strings.Cut(full, "[peer.b]")
	w.begin(head)
	w.end()
	w.after(writerLook)
	w.after(3 * time.Second)
	w.must(os.Mkdir(filepath.Join(w.dir, "peers.d"), 0o755))
	w.must(os.WriteFile(filepath.Join(w.dir, "peers.d", "b.toml"), []byte("[peer.b]"+tail), 0o600))
	w.told()
	w.want("moved", both, "")
	if w.k.made["b"] != 1 {
		t.Errorf("the tunnel of b was made %d times", w.k.made["b"])
	}
}

func TestCommandAndSignalLoadAtOnceWhateverWaits(t *testing.T) {
	for name, ask := range map[string]func(w *slowWriter){
		"a command": func(w *slowWriter) { w.reload(w.ctx, bySignal()) },
		"SIGHUP":    func(w *slowWriter) { w.onChange(w.ctx, w.now, watch.Event{Reason: watch.Signal}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newSlowWriter(t)
			w.begin(w.text("[peer.a]\n"))
			w.want("before", both, "is open for writing")
			ask(w)
			w.want("after", onlyOne, "")
			w.end()
			w.after(time.Hour)
			w.want("later", onlyOne, "")
		})
	}
}

func TestFileThatIsReplacedIsLoadedAtOnce(t *testing.T) {
	w := newSlowWriter(t)
	next := filepath.Join(w.dir, "next")
	w.must(os.WriteFile(next, []byte(w.text(twoPeers+"[peer.c]\n")), 0o600))
	w.must(syscall.Rename(next, w.o.Config))
	w.told()
	w.want("replaced", both+"; tun-c c", "")
}
