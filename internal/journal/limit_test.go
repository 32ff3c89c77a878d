package journal_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/journal"
)

// limited lets something log, waits until all counts are said, and returns the lines.
func limited(t *testing.T, do func(log *slog.Logger)) (lines []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &outlet{}
		l := run(t, journal.NewLog(nil, o))
		do(slog.New(l.Handler()))
		time.Sleep(journal.NoticePause + time.Millisecond) // after the counts, not beside them
		l.Flush(time.Second)
		lines = o.lines()
	})
	return lines
}

// count returns how many lines have all of the texts.
func count(lines []string, texts ...string) (n int) {
next:
	for _, line := range lines {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		n++
	}
	return n
}

func TestPeerCausesSoManyLinesAndACount(t *testing.T) {
	const all = 3200
	lines := limited(t, func(log *slog.Logger) {
		for i := range all {
			log.Warn("session lost", "peer", "alpha", "endpoint", fmt.Sprint(i), "err", fmt.Sprint("error ", i))
		}
		log.Warn("session lost", "peer", "beta")
		log.Warn("shutdown received", "peer", "alpha")
	})
	if n := count(lines, `msg="session lost" peer=alpha`); n != journal.Burst {
		t.Errorf("%d lines of alpha", n)
	}
	if count(lines, `msg="session lost" peer=beta`) != 1 || count(lines, `msg="shutdown received" peer=alpha`) != 1 {
		t.Errorf("what others say was left out: %q", lines[journal.Burst:])
	}
	want := fmt.Sprintf(`level=WARN msg="log lines left out" peer=alpha sentence="session lost" count=%d`, all-journal.Burst)
	if count(lines, want) != 1 || len(lines) != journal.Burst+3 {
		t.Errorf("%d lines, not once %s; %q", len(lines), want, lines[journal.Burst:])
	}
}

func TestUnknownSourcesShareOneLimit(t *testing.T) {
	lines := limited(t, func(log *slog.Logger) {
		for i := range 1000 {
			log.Warn("connection not accepted", "endpoint", fmt.Sprint("192.0.2.1:", i))
		}
	})
	if len(lines) != journal.Burst+1 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestLineComesAgainAfterATime(t *testing.T) {
	lines := limited(t, func(log *slog.Logger) {
		for range 2 * journal.Burst {
			log.Warn("session lost", "peer", "alpha")
		}
		for range 3 {
			time.Sleep(journal.Interval)
			log.Warn("session lost", "peer", "alpha")
		}
	})
	if n := count(lines, `msg="session lost"`); n != journal.Burst+3 {
		t.Errorf("%d lines", n)
	}
}

func TestCountsAreSaidAtTheEnd(t *testing.T) {
	o := &outlet{}
	l := run(t, journal.NewLog(nil, o))
	for range 2 * journal.Burst {
		slog.New(l.Handler()).Warn("session lost", "peer", "alpha")
	}
	l.Flush(hangs)
	if count(o.lines(), "left out") != 1 {
		t.Errorf("wrote %q", o.lines())
	}
}

// An order comes from somebody who may give it.
func TestOrderIsAlwaysLogged(t *testing.T) {
	lines := limited(t, func(log *slog.Logger) {
		for range 1000 {
			log.With("uid", 0).Info("control request served")
			log.With("uid", 1000).Warn("control request not permitted")
		}
	})
	if served, refused := count(lines, "served"), count(lines, "msg=\"control request not permitted\""); served != 1000 || refused != journal.Burst {
		t.Errorf("%d served, %d not permitted", served, refused)
	}
}

func TestStartOfManyPeersIsLoggedWhole(t *testing.T) {
	lines := limited(t, func(log *slog.Logger) {
		for i := range 1000 {
			log.Info("child started", "peer", fmt.Sprint("peer-", i))
			log.Warn("tunnel discarded", "iface", fmt.Sprint("tun", i))
		}
	})
	if len(lines) != 2000 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestTableOfSubjectsIsBounded(t *testing.T) {
	read := func(i int) {
		if i%1000 == 0 { // or the queue would be full
			synctest.Wait()
		}
	}
	lines := limited(t, func(log *slog.Logger) {
		for i := range 2 * journal.Subjects {
			read(i)
			log.Warn("session lost", "peer", fmt.Sprint(i))
		}
	})
	if n := count(lines, `msg="session lost"`); n != journal.Subjects+journal.Burst {
		t.Errorf("%d lines", n)
	}
	lines = limited(t, func(log *slog.Logger) {
		for i := range 2 * journal.Subjects {
			read(i)
			if i == journal.Subjects {
				time.Sleep(journal.Burst * journal.Interval)
			}
			log.Warn("session lost", "peer", fmt.Sprint(i))
		}
	})
	if len(lines) != 2*journal.Subjects {
		t.Errorf("%d lines", len(lines))
	}
}
