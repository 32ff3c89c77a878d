package supervisor

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// What a child writes to its standard error is its own: some lines at its start, and what the Go runtime
// says when it crashes. It is logged as such, and no faster than this. A child that writes
// more waits, or loses what it writes. The handler of the log leaves out lines beyond its limits, and
// escapes what is not printable.
const (
	stderrLine  = 1024     // longer lines are divided
	stderrBurst = 64 << 10 // bytes: more than the traceback of all goroutines
	stderrRate  = 4 << 10  // and then so many each second
	lineCost    = 64       // bytes that a line counts as besides its own
)

// logStderr ends when no process has the pipe any more, or, once the child is gone, with the deadline
// that close has set.
func (c *child) logStderr() {
	defer func() { _ = c.said.Close() }()
	readLines(c.said, c.done, func(level slog.Level, text string) {
		c.s.o.Log.Log(context.Background(), level, "child wrote", "child", c.number, "pid", c.cmd.Process.Pid, "text", text)
	})
}

// readLines reads to the end; after done without a pause.
func readLines(from io.Reader, done <-chan struct{}, log func(slog.Level, string)) {
	r := bufio.NewReaderSize(from, stderrLine)
	budget := rate.NewLimiter(stderrRate, stderrBurst)
	for {
		p, err := r.ReadSlice('\n')
		if line := strings.TrimSuffix(string(p), "\n"); line != "" {
			log(splitLevel(line))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
		pause(budget.ReserveN(time.Now(), lineCost+len(p)).Delay(), done)
	}
}

func pause(d time.Duration, done <-chan struct{}) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}

// splitLevel reads the priority that a line begins with, as in sd-daemon(3). What has none was not
// meant to be written.
func splitLevel(line string) (slog.Level, string) {
	if len(line) < 3 || line[0] != '<' || line[2] != '>' {
		return slog.LevelWarn, line
	}
	switch n := line[1]; {
	case n >= '0' && n <= '3':
		return slog.LevelError, line[3:]
	case n == '4':
		return slog.LevelWarn, line[3:]
	case n >= '5' && n <= '7':
		return slog.LevelInfo, line[3:]
	}
	return slog.LevelWarn, line
}
