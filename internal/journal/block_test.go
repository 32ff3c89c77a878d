package journal_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/journal"
)

// An outlet is a standard error that a test can block and break.
type outlet struct {
	gate chan struct{} // a write takes one, unless it is nil

	mu    sync.Mutex
	err   error
	taken int // of a write that fails: so many bytes
	text  strings.Builder
}

func (o *outlet) Write(p []byte) (int, error) {
	if o.gate != nil {
		<-o.gate
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		n := min(o.taken, len(p))
		o.text.Write(p[:n])
		return n, o.err
	}
	return o.text.Write(p)
}

func (o *outlet) fail(err error, taken int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err, o.taken = err, taken
}

func (o *outlet) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Split(strings.TrimSuffix(o.text.String(), "\n"), "\n")
}

// Whoever logs does not wait for who reads, and the queue is bounded: what finds no
// room is counted, and the count stands where the lines would.
func TestNobodyWaitsForALogThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outlet{gate: make(chan struct{})}
		l := run(t, journal.NewLog(nil, o))
		log := slog.New(l.Handler())
		const all, size = 2000, 1000
		for i := range all {
			log.Info("filled", "uid", 0, "err", strings.Repeat("x", size), "count", i)
		}
		l.Flush(time.Second) // gives up
		close(o.gate)
		synctest.Wait()
		log.Info("filled", "uid", 0, "count", all)
		l.Flush(time.Second)
		lines := o.lines()
		kept := len(lines) - 2
		if kept < journal.QueueSize/size/2 || kept > journal.QueueSize/size+1 {
			t.Errorf("%d lines of %d bytes were kept", kept, size)
		}
		if want := fmt.Sprintf(`msg="log lines dropped" count=%d`, all-kept); !strings.Contains(lines[kept], want) {
			t.Errorf("no %s in %s", want, lines[kept])
		}
		if !strings.HasSuffix(lines[kept+1], fmt.Sprintf("count=%d", all)) {
			t.Errorf("the last line is %s", lines[kept+1])
		}
	})
}

// The disk is full, the reader has gone, the terminal has hung up.
func TestLineThatCannotBeWrittenIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outlet{}
		l := run(t, journal.NewLog(nil, o))
		log := slog.New(l.Handler())
		log.Info("one")
		l.Flush(time.Second)
		o.fail(errors.New("no space left"), 5)
		log.Info("two")
		log.Info("three")
		l.Flush(time.Second)
		o.fail(nil, 0)
		time.Sleep(journal.NoticePause + time.Second) // nobody logs anything else
		log.Info("four")
		l.Flush(time.Second)
		lines := o.lines()
		last := len(lines) - 1
		if !strings.HasSuffix(lines[0], "msg=one") || !strings.HasSuffix(lines[last], "msg=four") {
			t.Fatalf("wrote %q", lines)
		}
		if line := lines[last-1]; !strings.HasPrefix(line, "time=") || !strings.HasSuffix(line, `msg="log lines dropped" count=2`) {
			t.Errorf("after lines that were cut short came %q", line)
		}
	})
}

func TestCountComesBeforeTheNextLine(t *testing.T) {
	o := &outlet{}
	l := run(t, journal.NewLog(nil, o))
	log := slog.New(l.Handler())
	o.fail(errors.New("broken pipe"), 0)
	log.Info("one")
	l.Flush(hangs)
	o.fail(nil, 0)
	log.Info("two")
	l.Flush(hangs)
	if lines := o.lines(); len(lines) != 2 || !strings.Contains(lines[0], "count=1") || !strings.HasSuffix(lines[1], "msg=two") {
		t.Errorf("wrote %q", lines)
	}
}

func TestFlushWaitsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outlet{gate: make(chan struct{})}
		l := run(t, journal.NewLog(nil, o))
		slog.New(l.Handler()).Info("one")
		began := time.Now()
		l.Flush(time.Second)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %s", waited)
		}
		close(o.gate)
	})
}
