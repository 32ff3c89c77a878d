package journal_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"tund/internal/journal"
)

// An entry is what the journal was sent.
type entry struct {
	message  string
	priority systemd.Priority
	fields   map[string]string
}

// hangs is longer than anything takes that does not hang.
const hangs = time.Minute

// run lets a Log write until the test ends.
func run(t *testing.T, l *journal.Log) *journal.Log {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); l.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return l
}

// record returns a logger, and what it has sent.
func record(t *testing.T) (*slog.Logger, func() entry) {
	t.Helper()
	var all []entry
	send := func(message string, priority systemd.Priority, fields map[string]string) error {
		all = append(all, entry{message, priority, fields})
		return nil
	}
	l := run(t, journal.NewLog(send, t.Output()))
	return slog.New(l.Handler()), func() entry {
		t.Helper()
		l.Flush(hangs)
		if len(all) != 1 {
			t.Fatalf("%d entries, want 1", len(all))
		}
		one := all[0]
		all = nil
		return one
	}
}

func TestEntryHasEachKeyAsAField(t *testing.T) {
	log, sent := record(t)
	log = log.With("peer", "beta", "child", 2)
	log.Warn("child exited", "err", errors.New("signal: killed"), "uid", 1000, "epoch", 7)
	got := sent()
	if want := `child exited peer=beta child=2 err="signal: killed" uid=1000 epoch=7`; got.message != want {
		t.Errorf("message %q, want %q", got.message, want)
	}
	if got.priority != systemd.PriWarning {
		t.Errorf("priority %d", got.priority)
	}
	want := map[string]string{
		"SYSLOG_IDENTIFIER": "tund", "EVENT": "child exited", "PEER": "beta", "CHILD": "2", "ERR": "signal: killed",
		"ACTOR_UID": "1000", "EPOCH": "7",
	}
	if !maps.Equal(got.fields, want) {
		t.Errorf("fields %v, want %v", got.fields, want)
	}
}

func TestLevelBecomesThePriority(t *testing.T) {
	log, sent := record(t)
	for level, want := range map[slog.Level]systemd.Priority{
		slog.LevelInfo: systemd.PriInfo, slog.LevelWarn: systemd.PriWarning, slog.LevelError: systemd.PriErr,
		slog.LevelError + 1: systemd.PriErr, slog.LevelWarn + 1: systemd.PriWarning,
	} {
		log.Log(t.Context(), level, "started")
		if got := sent(); got.priority != want || got.message != "started" {
			t.Errorf("level %s: priority %d, message %q", level, got.priority, got.message)
		}
	}
	if log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("debug is logged")
	}
}

func TestGroupsAreJoinedWithTheirKeys(t *testing.T) {
	log, sent := record(t)
	log.With("peer", "a").WithGroup("drops").With("auth", 1).WithGroup("more").Info("counted", "replay", 2)
	got := sent()
	if got.message != "counted peer=a drops.auth=1 drops.more.replay=2" {
		t.Errorf("message %q", got.message)
	}
	if got.fields["DROPS_AUTH"] != "1" || got.fields["DROPS_MORE_REPLAY"] != "2" || got.fields["PEER"] != "a" {
		t.Errorf("fields %v", got.fields)
	}
}

func TestLoggersDoNotShareWhatTheyWereGiven(t *testing.T) {
	log, sent := record(t)
	base := log.With("peer", "a", "child", 1, "pid", 2)
	one, other := base.With("epoch", 1), base.With("key", "k")
	one.Info("started")
	if got := sent(); got.message != "started peer=a child=1 pid=2 epoch=1" {
		t.Errorf("message %q", got.message)
	}
	other.Info("started")
	if got := sent(); got.message != "started peer=a child=1 pid=2 key=k" {
		t.Errorf("message %q", got.message)
	}
}

func TestFieldThatTheJournalWouldRefuseIsLeftOut(t *testing.T) {
	for name, want := range map[string]bool{
		"PEER": true, "RESTART_IN": true, "A1": true, "": false, "_PID": false, "PEER.NAME": false, "peer": false, "MESSAGE": false,
		"PRIORITY": false, "Ä": false,
	} {
		if journal.IsField(name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
	log, sent := record(t)
	log.Info("started", "two words", 1, "message", "other")
	if got := sent(); len(got.fields) != 2 || got.message != `started "two words"=1 message=other` {
		t.Errorf("message %q, fields %v", got.message, got.fields)
	}
}

func TestWhatCannotBeSentIsWrittenAsALine(t *testing.T) {
	var b bytes.Buffer
	refuse := func(string, systemd.Priority, map[string]string) error { return errors.New("no journal") }
	l := run(t, journal.NewLog(refuse, &b))
	slog.New(l.Handler()).With("peer", "beta").Error("child exited", "err", "two\nlines")
	l.Flush(hangs)
	if want := "<3>child exited peer=beta err=\"two\\nlines\"\n"; b.String() != want {
		t.Errorf("wrote %q, want %q", b.String(), want)
	}
}

func TestLinesBeginWithTheirPriority(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(journal.NewLines(&b)).With("peer", "beta").WithGroup("x").With("a", 1)
	log.Debug("nothing")
	log.Info("started", "pid", 7)
	log.Warn("engine not used")
	if want := "<6>started peer=beta x.a=1 x.pid=7\n<4>engine not used peer=beta x.a=1\n"; b.String() != want {
		t.Errorf("wrote %q, want %q", b.String(), want)
	}
}

func TestComplaintOfSeveralLinesIsOneOfTheJournalInEach(t *testing.T) {
	var b bytes.Buffer
	journal.ComplainTo(&b, "tund: a\nb")
	if want := "<3>tund: a\n<3>b\n"; b.String() != want {
		t.Errorf("wrote %q, want %q", b.String(), want)
	}
	for want, send := range map[string]sender{"tund: a\n\\x1bb\n": nil, "<3>tund: a\n<3>\\x1bb\n": accept} {
		var b bytes.Buffer
		l := run(t, journal.NewLog(send, &b))
		l.Complain("tund: a\n\x1bb")
		l.Flush(hangs)
		if b.String() != want {
			t.Errorf("wrote %q, want %q", b.String(), want)
		}
	}
}

type sender func(string, systemd.Priority, map[string]string) error

func accept(string, systemd.Priority, map[string]string) error { return nil }

func TestNothingThatATerminalObeysIsWritten(t *testing.T) {
	for s, want := range map[string]string{
		"é \t plain": "é \t plain", "\x1b[2J": `\x1b[2J`, "a\nb\r": `a\nb\r`, "\u202e": `\u202e`, "\xff": `\xff`, "\u009b": `\u009b`,
		`\n`: `\n`, "": "",
	} {
		if got := journal.Printable(s); got != want {
			t.Errorf("%q became %q, want %q", s, got, want)
		}
	}
	log, sent := record(t)
	log.Warn("http: \x1b[2J", "err", "\x1b[2J")
	got := sent()
	for name, text := range map[string]string{"message": got.message, "EVENT": got.fields["EVENT"], "ERR": got.fields["ERR"]} {
		if strings.Contains(text, "\x1b") {
			t.Errorf("%s: %q", name, text)
		}
	}
}
