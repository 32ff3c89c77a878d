package supervisor

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A said is one line that was read.
type said struct {
	level slog.Level
	text  string
}

// lines reads all of a text, as from a child that is gone.
func lines(text string) (all []said) {
	done := make(chan struct{})
	close(done)
	readLines(strings.NewReader(text), done, func(level slog.Level, text string) { all = append(all, said{level, text}) })
	return all
}

func TestLineOfAChildHasItsLevel(t *testing.T) {
	for line, want := range map[string]said{
		"<3>tund: x": {slog.LevelError, "tund: x"}, "<4>x": {slog.LevelWarn, "x"}, "<6>x": {slog.LevelInfo, "x"}, "<0>x": {slog.LevelError, "x"},
		"panic: x": {slog.LevelWarn, "panic: x"}, "<8>x": {slog.LevelWarn, "<8>x"}, "<4": {slog.LevelWarn, "<4"}, "<4>": {slog.LevelWarn, ""},
	} {
		if got := lines(line + "\n"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	if got := lines("\n\na\nb"); len(got) != 2 || got[0].text != "a" || got[1].text != "b" {
		t.Errorf("%v", got)
	}
}

func TestLongLineIsDivided(t *testing.T) {
	got := lines(strings.Repeat("x", 3*stderrLine) + "\nnext\n")
	if len(got) != 4 || len(got[0].text) != stderrLine || got[3].text != "next" {
		t.Errorf("%d lines: %v", len(got), got)
	}
}

func TestChildThatWritesMuchIsReadSlowly(t *testing.T) {
	for name, text := range map[string]string{"short lines": "x\n", "empty lines": "\n", "no lines": strings.Repeat("x", 1000)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w := io.Pipe()
				done, ended := make(chan struct{}), make(chan struct{})
				bytes, logged := 0, 0
				go func() {
					for ; ; bytes += len(text) {
						if _, err := io.WriteString(w, text); err != nil {
							return
						}
					}
				}()
				go func() {
					defer close(ended)
					readLines(r, done, func(slog.Level, string) { logged++ })
				}()
				const seconds = 60
				time.Sleep(seconds * time.Second)
				synctest.Wait()
				const most = stderrBurst + (seconds+1)*stderrRate + 2*stderrLine
				if bytes > most || logged*lineCost > most {
					t.Errorf("%d bytes and %d lines in a minute", bytes, logged)
				}
				_ = w.Close()
				close(done)
				<-ended
			})
		})
	}
}
